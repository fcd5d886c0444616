//! The commands other than `dev`, as processes.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    Client, app,
    database::Database,
    process::{self, tenantry},
};

fn secret() -> String {
    "0123456789abcdef".repeat(2)
}

#[test]
fn a_bad_setting_is_reported_in_one_line_with_its_name() {
    type Case = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static str);
    let cases: [Case; 18] = [
        (&["serve"], &[], "DATABASE_URL is not set"),
        (&["serve"], &[("DATABASE_URL", "mysql://x")], "DATABASE_URL is not a PostgreSQL address"),
        (&["serve"], &[("DATABASE_URL", "postgres://a@localhost/b")], "JWT_SECRET is not set"),
        (
            &["serve"],
            &[("DATABASE_URL", "postgres://a@localhost/b"), ("JWT_SECRET", "short")],
            "JWT_SECRET has 5 bytes",
        ),
        (&["serve"], &[("LISTEN_ADDR", "somewhere")], "LISTEN_ADDR"),
        (&["serve"], &[("DATABASE_MAX_CONNECTIONS", "0")], "DATABASE_MAX_CONNECTIONS"),
        (&["serve"], &[("INTROSPECTION", "perhaps")], "INTROSPECTION"),
        (&["serve"], &[("TRUSTED_PROXIES", "10.0.0.0/99")], "TRUSTED_PROXIES"),
        (&["migrate"], &[], "MIGRATION_DATABASE_URL is not set"),
        (
            &["migrate"],
            &[
                ("MIGRATION_DATABASE_URL", "postgres://a@localhost/b"),
                ("DATABASE_URL", "postgres://boss@localhost/b"),
            ],
            "DATABASE_URL logs in as boss",
        ),
        (&["token", "--subject", "a", "--ttl", "soon"], &[("JWT_SECRET", "x")], "--ttl"),
        (&["serve"], &[("MAX_DEPTH", "0")], "MAX_DEPTH"),
        (&["serve"], &[("RUST_LOG", "garbage=[[[")], "RUST_LOG"),
        (
            &["serve"],
            &[
                ("DATABASE_URL", "postgres://a@localhost/b"),
                ("JWT_JWKS_URL", "http://id.example/jwks"),
                ("SECRET_KEY", "0123456789abcdef0123456789abcdef"),
            ],
            "JWT_JWKS_URL must begin with https://",
        ),
        (
            &["serve"],
            &[
                ("DATABASE_URL", "postgres://a@localhost/b"),
                ("JWT_SECRET", "0123456789abcdef0123456789abcdef\n"),
                ("JWT_JWKS_URL", "https://id.example/jwks"),
                ("SECRET_KEY", "0123456789abcdef0123456789abcdef"),
            ],
            "JWT_JWKS_URL replaces JWT_SECRET",
        ),
        (
            &["doctor"],
            &[("DATABASE_URL", "\n mysql://x \n")],
            "DATABASE_URL is not a PostgreSQL address",
        ),
        (
            &["billing", "replay", "evt_1"],
            &[
                ("DATABASE_URL", "postgres://a@localhost/b"),
                ("BILLING_PROVIDER", "stripe"),
                ("STRIPE_SECRET_KEY", "pk_live_1"),
                ("STRIPE_WEBHOOK_SECRET", "whsec_1"),
            ],
            "STRIPE_SECRET_KEY is not a secret key",
        ),
        (&["nonsense"], &[], "nonsense"),
    ];
    for (arguments, environment, expected) in cases {
        let output = process::run(tenantry().args(arguments).envs(environment.iter().copied()));
        assert_eq!(output.code, Some(1), "{arguments:?} {environment:?}");
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        assert!(output.stderr.contains(expected), "{} should contain {expected}", output.stderr);
        assert_eq!(output.stdout, "");
    }
}

#[test]
fn an_invalid_value_is_reported_as_it_was_given_with_the_expected_form() {
    type Case = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static str);
    let cases: [Case; 8] = [
        (
            &["nonsense"],
            &[],
            "unrecognized subcommand 'nonsense'. For more information, try --help",
        ),
        (
            &["plan", "set", "pro"],
            &[],
            "the following required arguments were not provided: <FEATURE> <LIMIT>. For more information, try --help",
        ),
        (
            &["serve"],
            &[("LISTEN_ADDR", "here")],
            "invalid value 'here' for LISTEN_ADDR: must be an address and a port, for example 127.0.0.1:4000",
        ),
        (
            &["serve", "--listen-addr", "here"],
            &[],
            "invalid value 'here' for '--listen-addr <LISTEN_ADDR>': must be an address and a port, for example 127.0.0.1:4000",
        ),
        (
            &["serve"],
            &[("DATABASE_MAX_CONNECTIONS", "many")],
            "invalid value 'many' for DATABASE_MAX_CONNECTIONS: must be a whole number",
        ),
        (
            &["serve"],
            &[("INTROSPECTION", "nevr")],
            "invalid value 'nevr' for INTROSPECTION [possible values: always, authenticated, never]. A similar value exists: 'never'",
        ),
        (
            &["serv"],
            &[],
            "unrecognized subcommand 'serv'. Some similar subcommands exist: 'dev', 'user', 'serve'",
        ),
        (
            &["serve", "--listen-adr", "127.0.0.1:1"],
            &[],
            "unexpected argument '--listen-adr' found. A similar argument exists: '--listen-addr'",
        ),
    ];
    for (arguments, environment, expected) in cases {
        let output = process::run(tenantry().args(arguments).envs(environment.iter().copied()));
        assert_eq!(output.stderr, format!("tenantry: {expected}\n"));
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let program = env!("CARGO_BIN_EXE_tenantry");
    for command in ["schema", "schema --docs", "serve --help"] {
        let script = format!("set -o pipefail; '{program}' {command} | true");
        let output = process::run(std::process::Command::new("bash").args(["-c", &script]));
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{command}");
    }
}

#[test]
fn a_password_is_never_printed() {
    for (variable, command) in [("DATABASE_URL", "serve"), ("MIGRATION_DATABASE_URL", "migrate")] {
        let output = process::run(
            tenantry()
                .arg(command)
                .env("JWT_SECRET", secret())
                .env("SECRET_KEY", secret())
                .env(variable, "postgres://tenantry_app:hunter2@127.0.0.1:1/x"),
        );
        assert_eq!(output.code, Some(1));
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
    }
    let help = process::run(tenantry().args(["serve", "--help"]).env("JWT_SECRET", secret()));
    assert!(!help.stdout.contains(&secret()));
}

#[test]
fn help_shows_every_setting_with_its_default() {
    let help = process::run(tenantry().args(["serve", "--help"])).stdout;
    for setting in [
        "DATABASE_URL",
        "JWT_SECRET",
        "JWT_ORG_CLAIM",
        "TRUSTED_PROXIES",
        "BILLING_GRACE_DAYS",
        "LOG_FORMAT",
    ] {
        assert!(help.contains(&format!("[env: {setting}")), "{setting}");
    }
    assert!(
        help.contains("[default: 127.0.0.1:4000]") && help.contains("[default: authenticated]")
    );
}

#[test]
fn a_group_of_commands_without_a_command_lists_them() {
    let output = process::run(tenantry().arg("plan"));
    assert_eq!((output.code, output.stderr.as_str()), (Some(1), ""));
    assert_eq!(output.stdout, process::run(tenantry().args(["plan", "-h"])).stdout);
    assert!(output.stdout.contains("archive"), "{}", output.stdout);
}

#[test]
fn help_fits_into_the_terminal_and_leaves_out_what_a_command_refuses() {
    for command in ["dev", "serve", "migrate", "plan", "tenant", "token"] {
        let help = process::run(tenantry().args([command, "--help"]).env("COLUMNS", "80")).stdout;
        let widest = help.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= 80, "{command}: {widest}");
    }
    let shows = |command: &str, flag: &str| {
        process::run(tenantry().args([command, "--help"])).stdout.contains(flag)
    };
    assert!(shows("serve", "--database-url") && shows("dev", "--database-max-connections"));
    assert!(!shows("dev", "--database-url") && !shows("dev", "--jwt-issuers"));
}

#[test]
fn the_schema_is_printed() {
    let output = process::run(tenantry().arg("schema"));
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), tenantry::schema::sdl().as_str()));
}

#[tokio::test]
async fn a_token_is_signed_for_the_verifier() {
    let app = app::App::start().await;
    let token = |arguments: &[&str]| {
        let output = process::run(
            tenantry()
                .args(["token", "--subject", "acme-owner"])
                .args(arguments)
                .env("JWT_SECRET", app::SECRET),
        );
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        output.stdout.trim().to_owned()
    };
    let query = "{ viewer { name } organization { slug } }";
    let data = app.client(None, Some(token(&["--org", "acme"]))).data(query).await;
    assert_eq!(data, json!({ "viewer": { "name": "Olivia" }, "organization": { "slug": "acme" } }));
    let expired = token(&["--ttl=-2m"]);
    app.client(None, Some(expired)).query(query).await.assert_refused(401, "UNAUTHENTICATED");
}

/// Migrates an empty database and serves from it, as an operator would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_database_is_migrated_and_served() {
    let database = Database::empty().await;
    let (admin, url) = (database.url("postgres"), database.url("tenantry_app"));
    tokio::task::spawn_blocking(move || {
        let serve = || {
            let mut command = tenantry();
            command.arg("serve").env("DATABASE_URL", &url).env("JWT_SECRET", secret()).env("SECRET_KEY", secret());
            command
        };
        let refused = process::run(serve().env("LISTEN_ADDR", "127.0.0.1:0"));
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("Run `tenantry migrate`"), "{}", refused.stderr);

        let migrate = || {
            process::run(tenantry().arg("migrate").env("MIGRATION_DATABASE_URL", &admin).env("DATABASE_URL", &url))
        };
        let first = migrate();
        assert_eq!(first.code, Some(0), "{}", first.stderr);
        let steps = migration::STEPS.len();
        let applied = first.stdout.lines().filter(|line| line.starts_with("applied ")).count();
        assert_eq!(applied, steps, "{}", first.stdout);
        assert_eq!(migrate().stdout, "The database is up to date.\n");

        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let mut command = serve();
        command.env("LISTEN_ADDR", &address).stderr(std::process::Stdio::null());
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        process::eventually("it does not listen", || std::net::TcpStream::connect(&address).is_ok());

        let token = process::run(
            tenantry().args(["token", "--subject", "first", "--email", "First@Example.com"]).env("JWT_SECRET", secret()),
        );
        let client = Client::new(format!("http://{address}/graphql"), Some(token.stdout.trim().to_owned()));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let data = client
                .data("mutation { createOrganization(input: { name: \"One\", slug: \"one-inc\" }) { organization { slug } } }")
                .await;
            assert_eq!(data["createOrganization"]["organization"]["slug"], "one-inc");
            let data = client.data("{ viewer { email memberships { slug } } }").await;
            assert_eq!(data["viewer"], json!({ "email": "first@example.com", "memberships": [{ "slug": "one-inc" }] }));
            for path in ["healthz", "readyz"] {
                let status = reqwest::get(format!("http://{address}/{path}")).await.unwrap().status();
                assert_eq!(status, 200, "{path}");
            }
        });
        let pid = child.id().to_string();
        assert!(std::process::Command::new("kill").arg(&pid).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(0), "SIGTERM ends it cleanly");
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_can_be_edited_while_servers_run() {
    let app = app::App::start().await;
    let admin = app.database.url("postgres");
    let plan = |arguments: &'static [&'static str]| {
        let admin = admin.clone();
        tokio::task::spawn_blocking(move || {
            process::run(
                tenantry().arg("plan").args(arguments).env("MIGRATION_DATABASE_URL", admin),
            )
        })
    };
    let listed = plan(&["list"]).await.unwrap();
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    for feature in ["projects", "team_members", "api_calls_per_month"] {
        let plans = listed.stdout.lines().filter(|line| line.contains(feature)).count();
        assert_eq!(plans, 3, "{}", listed.stdout);
    }
    let owner = app.user("globex-owner");
    let create = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
    owner.data(create).await;
    owner.query(create).await.assert_failed("PLAN_LIMIT_EXCEEDED");
    for (limit, allowed) in [("4", true), ("off", false), ("unlimited", true), ("0", false)] {
        let arguments: &'static [&'static str] =
            Box::leak(Box::new(["set", "free", "projects", limit]));
        let set = plan(arguments).await.unwrap();
        assert_eq!(set.code, Some(0), "{}", set.stderr);
        assert!(set.stdout.contains(limit), "{}", set.stdout);
        assert_eq!(owner.query(create).await.codes().is_empty(), allowed, "{limit}");
    }
    for arguments in [
        &["set", "gold", "projects", "1"] as &'static [&'static str],
        &["set", "free", "rockets", "1"],
        &["set", "free", "projects", "-1"],
    ] {
        let refused = plan(arguments).await.unwrap();
        assert_eq!(
            (refused.code, refused.stderr.lines().count()),
            (Some(1), 1),
            "{}",
            refused.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_or_older_database_is_not_served() {
    for (sql, expected) in [
        (
            "INSERT INTO migration.seaql_migrations VALUES ('core/9999_future', 0)",
            "newer version of tenantry",
        ),
        (
            "DELETE FROM migration.seaql_migrations
             WHERE version = (SELECT min(version) FROM migration.seaql_migrations)",
            "lacks 1 migration.",
        ),
    ] {
        let database = Database::create().await;
        database.execute(sql).await;
        let url = database.url("tenantry_app");
        let output = tokio::task::spawn_blocking(move || {
            process::run(
                tenantry()
                    .arg("serve")
                    .env("DATABASE_URL", url)
                    .env("JWT_SECRET", secret())
                    .env("SECRET_KEY", secret()),
            )
        });
        let output = output.await.unwrap();
        assert_eq!(output.code, Some(1));
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_progress_finish_before_the_server_ends() {
    let database = Database::create().await;
    let admin = database.connect_admin().await;
    admin.batch("BEGIN; SELECT FROM billing.organization_billing FOR UPDATE").await.unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let mut server = tenantry()
        .arg("serve")
        .env("DATABASE_URL", database.url("tenantry_app"))
        .env("JWT_SECRET", app::SECRET)
        .env("SECRET_KEY", secret())
        .env("LISTEN_ADDR", &address)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    process::eventually("it does not listen", || std::net::TcpStream::connect(&address).is_ok());
    let owner =
        Client::new(format!("http://{address}/org/acme/graphql"), Some(app::token("acme-owner")));
    let creation = tokio::spawn(async move {
        owner
            .query("mutation { createProject(input: { name: \"last\" }) { project { name } } }")
            .await
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while database.exactly::<i64>(waiting).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pid = server.id().to_string();
    assert!(std::process::Command::new("kill").arg(&pid).status().unwrap().success());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(server.try_wait().unwrap().is_none(), "it waits for its request");
    admin.batch("ROLLBACK").await.unwrap();
    assert_eq!(creation.await.unwrap().data()["createProject"]["project"]["name"], "last");
    let ended = tokio::task::spawn_blocking(move || server.wait().unwrap().code());
    assert_eq!(ended.await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_finishes_does_not_delay_the_end_of_the_server() {
    use std::io::Write;
    let database = Database::create().await;
    let address = format!("127.0.0.1:{}", free_port());
    let mut server = tenantry()
        .arg("serve")
        .env("DATABASE_URL", database.url("tenantry_app"))
        .env("JWT_SECRET", app::SECRET)
        .env("SECRET_KEY", secret())
        .env("LISTEN_ADDR", &address)
        .env("SHUTDOWN_GRACE", "1")
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let ended = tokio::task::spawn_blocking(move || {
        process::eventually("it does not listen", || {
            std::net::TcpStream::connect(&address).is_ok()
        });
        let mut half = std::net::TcpStream::connect(&address).unwrap();
        half.write_all(b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Le").unwrap();
        let pid = server.id().to_string();
        assert!(std::process::Command::new("kill").arg(&pid).status().unwrap().success());
        let mut code = None;
        process::eventually("it never ends", || {
            code = server.try_wait().unwrap().map(|status| status.code());
            code.is_some()
        });
        code.flatten()
    });
    assert_eq!(ended.await.unwrap(), Some(0));
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_migration_as_the_wrong_role_names_the_right_one() {
    let database = Database::empty().await;
    database.execute("DROP ROLE IF EXISTS weak_login; CREATE ROLE weak_login LOGIN").await;
    let mut migrate = tenantry();
    migrate.arg("migrate").env("MIGRATION_DATABASE_URL", database.url("weak_login"));
    let output = tokio::task::spawn_blocking(move || process::run(&mut migrate)).await.unwrap();
    for expected in ["weak_login cannot prepare the roles", "use a superuser", "CREATEROLE"] {
        process::failed(&output, expected);
    }
}
