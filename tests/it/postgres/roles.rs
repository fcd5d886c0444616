//! `migrate` as the logins that there are: it sets what is missing, changes nothing else, and names
//! the right that a login lacks.

use migration::{Error, PrepareError, Report, Status};
use pg::Client;

use super::server::Server;
use crate::support::process::{run, tenantry};

const PASSWORDS: &str =
    "SELECT array_agg(rolname || ' ' || coalesce(rolpassword, '') ORDER BY rolname)
    FROM pg_authid WHERE rolname IN ('tenantry_app', 'tenantry_system')";

/// Returns the statements that a refusal asks for.
fn missing(outcome: Result<Report, Error>) -> Vec<String> {
    match outcome {
        Err(Error::Prepare(PrepareError::MissingRights { statements, .. })) => {
            statements.split("; ").map(ToOwned::to_owned).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Lets the logins of servers in with their password only.
async fn require_passwords(server: &Server) {
    let rules = "local all tenantry_app,tenantry_system scram-sha-256\nlocal all all trust\n";
    set_rules(server, rules).await;
}

/// Sets the rules of `pg_hba.conf`, which refuse the app role a wrong password.
async fn set_rules(server: &Server, rules: &str) {
    std::fs::write(server.file("data/pg_hba.conf"), rules).unwrap();
    server.execute("postgres", &["SELECT pg_reload_conf()"]).await;
    let refused = async || {
        let login = server.options("tenantry_app", "postgres").with("password", "wrong");
        Client::connect(&login).await.is_err()
    };
    while !refused().await {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn log_in(server: &Server, role: &str, password: &str) -> pg::Result<Client> {
    Client::connect(&server.options(role, "app").with("password", password)).await
}

#[tokio::test]
async fn passwords_are_sent_as_verifiers_and_set_only_when_they_differ() {
    let server = Server::start();
    let login = ["CREATE DATABASE app", "CREATE ROLE migrator LOGIN CREATEROLE"];
    server.execute("postgres", &login).await;
    server.execute("postgres", &["ALTER DATABASE app OWNER TO migrator"]).await;
    server
        .execute("postgres", &["ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()"])
        .await;
    server.migrate("migrator", "app", Some("first word")).await.unwrap();
    require_passwords(&server).await;
    for role in ["tenantry_app", "tenantry_system"] {
        log_in(&server, role, "first word").await.unwrap();
    }
    let first: Vec<String> = server.value("app", PASSWORDS).await;
    assert!(first.iter().all(|stored| stored.contains(" SCRAM-SHA-256$4096:")), "{first:?}");
    // A superuser compares the stored password, and another login tries it.
    for role in ["postgres", "migrator"] {
        server.migrate(role, "app", Some("first word")).await.unwrap();
        assert_eq!(server.value::<Vec<String>>("app", PASSWORDS).await, first, "as {role}");
    }
    for (role, password) in [("postgres", "second word"), ("migrator", "third word é\u{a0}\"'\\")]
    {
        server.migrate(role, "app", Some(password)).await.unwrap();
        assert_ne!(server.value::<Vec<String>>("app", PASSWORDS).await, first, "as {role}");
        log_in(&server, "tenantry_app", password).await.unwrap();
    }
    let log = server.log();
    assert!(log.contains("ALTER ROLE tenantry_app PASSWORD 'SCRAM-SHA-256$"), "{log}");
    for password in ["first word", "second word", "third word"] {
        assert!(!log.contains(password), "{password}: {log}");
    }
}

#[tokio::test]
async fn a_password_that_an_administrator_has_set_is_kept() {
    let server = Server::start();
    server.execute("postgres", &["CREATE DATABASE app"]).await;
    server.migrate("postgres", "app", None).await.unwrap();
    let mut settings =
        vec!["SET password_encryption = 'md5'", "SET password_encryption = 'scram-sha-256'"];
    if server.version().await >= 16 {
        settings.push("SET scram_iterations = 5000");
    }
    for setting in settings {
        let admin = Client::connect(&server.options("postgres", "app")).await.unwrap();
        admin.batch(setting).await.unwrap();
        for role in ["tenantry_app", "tenantry_system"] {
            admin.batch(&format!("ALTER ROLE {role} PASSWORD 'pässword'")).await.unwrap();
        }
        let stored: Vec<String> = server.value("app", PASSWORDS).await;
        server.migrate("postgres", "app", Some("pässword")).await.unwrap();
        assert_eq!(server.value::<Vec<String>>("app", PASSWORDS).await, stored, "{setting}");
        server.migrate("postgres", "app", Some("passwort")).await.unwrap();
        assert_ne!(server.value::<Vec<String>>("app", PASSWORDS).await, stored, "{setting}");
    }
}

/// The settings of the login roles, as an administrator may write them.
const SETTINGS: &str = "SET search_path TO app, auth, billing, audit, pg_temp;
    SET jit TO false; SET timezone TO 'UTC'; SET plan_cache_mode TO force_generic_plan;
    SET statement_timeout TO 10000; SET lock_timeout TO '5000ms';
    SET idle_in_transaction_session_timeout TO '15s'; SET client_connection_check_interval TO 500";

#[tokio::test]
async fn roles_of_an_administrator_are_not_changed() {
    let server = Server::start();
    for role in ["tenantry_app", "tenantry_system"] {
        let settings = SETTINGS.replace("SET", &format!("ALTER ROLE {role} SET"));
        let create =
            format!("CREATE ROLE {role} LOGIN NOINHERIT PASSWORD 'first word'; {settings}");
        server.execute("postgres", &[&create]).await;
    }
    let owner = ["CREATE ROLE tenantry_owner", "CREATE ROLE migrator LOGIN CREATEROLE"];
    server.execute("postgres", &owner).await;
    require_passwords(&server).await;
    let roles = async || {
        let settings: Vec<String> = server.value("postgres", CONFIGURATION).await;
        (settings, server.value::<Vec<String>>("postgres", PASSWORDS).await)
    };
    let before = roles().await;
    let grants: &[&str] = match server.version().await {
        15 => &[""],
        _ => &[" WITH SET TRUE", " WITH INHERIT FALSE, SET TRUE"],
    };
    for (index, grant) in grants.iter().enumerate() {
        let database = format!("app_{index}");
        let grant = format!("GRANT tenantry_owner TO migrator{grant}");
        let create = format!("CREATE DATABASE {database} OWNER migrator");
        server.execute("postgres", &[&grant, &create]).await;
        server.migrate("migrator", &database, Some("first word")).await.unwrap();
        assert_eq!(roles().await, before, "{grant}");
        let url = |role| server.url(role, &database) + "&password=first%20word";
        let mut doctor = tenantry();
        doctor.arg("doctor").env("DATABASE_URL", url("tenantry_app"));
        let doctor = run(doctor.env("SYSTEM_DATABASE_URL", url("tenantry_system")));
        assert_eq!(doctor.code, Some(0), "{grant}: {}{}", doctor.stdout, doctor.stderr);
    }
}

const CONFIGURATION: &str = "SELECT array_agg(concat(rolname, rolconfig) ORDER BY rolname) FROM pg_roles WHERE rolname LIKE 'tenantry\\_%'";

#[tokio::test]
async fn a_second_login_is_told_what_to_grant() {
    let server = Server::start();
    let logins = ["CREATE ROLE one LOGIN CREATEROLE", "CREATE ROLE two LOGIN CREATEROLE"];
    server.execute("postgres", &logins).await;
    let databases = ["CREATE DATABASE a OWNER one", "CREATE DATABASE b OWNER two"];
    server.execute("postgres", &databases).await;
    server.migrate("one", "a", Some("secret")).await.unwrap();
    require_passwords(&server).await;
    if server.version().await >= 16 {
        let statements = missing(server.migrate("two", "b", Some("another")).await);
        assert_eq!(
            statements,
            ["tenantry_app", "tenantry_system", "tenantry_owner"]
                .map(|role| format!("GRANT {role} TO two WITH ADMIN OPTION")),
        );
        // The password is right, so only the role of the owner is missing.
        let statements = missing(server.migrate("two", "b", Some("secret")).await);
        assert_eq!(statements, ["GRANT tenantry_owner TO two WITH ADMIN OPTION"]);
        let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('app', 'migration')";
        assert_eq!(server.value::<i64>("b", schemas).await, 0);
        // The login that created the roles may grant them.
        let one = Client::connect(&server.options("one", "a")).await.unwrap();
        one.batch(&statements.join("; ")).await.unwrap();
    }
    server.migrate("two", "b", Some("secret")).await.unwrap();
}

#[tokio::test]
async fn a_login_without_createrole_is_told_what_to_grant() {
    let server = Server::start();
    server.execute("postgres", &["CREATE ROLE plain LOGIN", "CREATE DATABASE app"]).await;
    let refused = server.migrate("plain", "app", None).await;
    assert_eq!(missing(refused), ["ALTER ROLE plain CREATEROLE"]);
    assert_eq!(
        server
            .value::<i64>("app", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenantry%'")
            .await,
        0
    );
    // With roles that are there, it needs the owner's role, and rights on the database.
    server.execute("postgres", &["CREATE DATABASE other"]).await;
    server.migrate("postgres", "other", None).await.unwrap();
    let statements = missing(server.migrate("plain", "app", None).await);
    assert_eq!(
        statements,
        ["GRANT tenantry_owner TO plain", "GRANT CREATE ON DATABASE app TO tenantry_owner"]
    );
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    server.execute("app", &statements).await;
    server.migrate("plain", "app", None).await.unwrap();
    // It can also take over a database that a superuser has migrated.
    server.migrate("plain", "other", None).await.unwrap();
}

#[tokio::test]
async fn a_later_login_takes_a_migrated_database_over() {
    let server = Server::start();
    server.execute("postgres", &["CREATE ROLE later LOGIN", "CREATE DATABASE app"]).await;
    server.migrate("postgres", "app", None).await.unwrap();
    assert_eq!(
        missing(server.migrate("later", "app", None).await),
        ["GRANT tenantry_owner TO later"]
    );
    server.execute("postgres", &["GRANT tenantry_owner TO later"]).await;
    let report = server.migrate("later", "app", None).await.unwrap();
    assert!(report.applied.is_empty() && report.functions.is_empty(), "{report:?}");
}

#[tokio::test]
async fn a_password_is_wrong_only_if_the_server_says_so() {
    let server = Server::start();
    server.execute("postgres", &["CREATE ROLE plain LOGIN", "CREATE DATABASE app"]).await;
    server.migrate("postgres", "app", Some("secret")).await.unwrap();
    server.execute("postgres", &["GRANT tenantry_owner TO plain"]).await;
    let rules = "local all tenantry_app reject\nlocal all tenantry_system scram-sha-256\nlocal all all trust\n";
    set_rules(&server, rules).await;
    server.migrate("plain", "app", Some("secret")).await.unwrap();
    // The server tells that the password of the other role is wrong.
    let statements = missing(server.migrate("plain", "app", Some("another")).await);
    assert_eq!(statements[0], "ALTER ROLE plain CREATEROLE");
    assert!(!statements.concat().contains("tenantry_app"), "{statements:?}");
}

#[tokio::test]
async fn a_newer_database_keeps_its_roles() {
    let server = Server::start();
    server.execute("postgres", &["CREATE DATABASE app"]).await;
    server.migrate("postgres", "app", Some("secret")).await.unwrap();
    // This login cannot act as the owner yet, but can make itself a member of it.
    let login = match server.version().await {
        15 => "CREATE ROLE later LOGIN NOINHERIT CREATEROLE",
        _ => {
            "CREATE ROLE later LOGIN NOINHERIT CREATEROLE; GRANT tenantry_owner, tenantry_app, tenantry_system \
             TO later WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"
        }
    };
    let changes = [
        login,
        "INSERT INTO migration.seaql_migrations VALUES ('core/9999_later', 0)",
        "ALTER ROLE tenantry_app SET statement_timeout TO '1min'",
    ];
    server.execute("app", &changes).await;
    let before: Vec<String> = server.value("app", CONFIGURATION).await;
    let refused = server.migrate("later", "app", Some("another")).await;
    assert!(matches!(refused, Err(Error::Version(Status::Ahead(_)))), "{refused:?}");
    assert_eq!(server.value::<Vec<String>>("app", CONFIGURATION).await, before);
    require_passwords(&server).await;
    log_in(&server, "tenantry_app", "secret").await.unwrap();
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_unchanged() {
    let server = Server::start();
    server.execute("postgres", &["CREATE ROLE other"]).await;
    for schema in ["app", "auth", "billing", "audit", "migration"] {
        let create = format!("CREATE DATABASE with_{schema}");
        server.execute("postgres", &[&create]).await;
        let database = format!("with_{schema}");
        server.execute(&database, &[&format!("CREATE SCHEMA {schema} AUTHORIZATION other")]).await;
        let refused = server.migrate("postgres", &database, None).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("the schema {schema}, which")), "{refused}");
        let schemas = "SELECT array_agg(nspname::text) FROM pg_namespace
            WHERE nspname IN ('app', 'auth', 'billing', 'audit', 'migration')";
        assert_eq!(server.value::<Vec<String>>(&database, schemas).await, [schema]);
    }
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenantry%'";
    assert_eq!(server.value::<i64>("postgres", roles).await, 0);
}

#[tokio::test]
async fn a_database_that_cannot_store_every_text_is_refused_and_unchanged() {
    let server = Server::start();
    for encoding in ["LATIN1", "SQL_ASCII", "EUC_JP"] {
        let database = encoding.to_lowercase();
        let create = format!(
            "CREATE DATABASE {database} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
        );
        server.execute("postgres", &[&create]).await;
        let refused = server.migrate("postgres", &database, None).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("it has the encoding {encoding}")), "{refused}");
        let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('app', 'migration')";
        assert_eq!(server.value::<i64>(&database, schemas).await, 0);
    }
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenantry%'";
    assert_eq!(server.value::<i64>("postgres", roles).await, 0);
}
