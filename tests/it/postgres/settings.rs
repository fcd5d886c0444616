//! Settings of the server, the database and the roles, and other programs in the database.

use migration::STEPS;
use serde_json::json;

use super::server::Server;
use crate::support::{App, Reply};

/// Settings that change how SQL is read and how expressions are printed, and time limits.
const UNUSUAL: [&str; 18] = [
    "quote_all_identifiers TO on",
    "standard_conforming_strings TO off",
    "escape_string_warning TO off",
    "bytea_output TO 'escape'",
    "DateStyle TO 'SQL, DMY'",
    "IntervalStyle TO 'sql_standard'",
    "TimeZone TO 'Asia/Kathmandu'",
    "search_path TO public, pg_catalog",
    "statement_timeout TO '1s'",
    "lock_timeout TO '1s'",
    "array_nulls TO off",
    "extra_float_digits TO '-15'",
    "default_transaction_isolation TO 'serializable'",
    "default_transaction_deferrable TO on",
    "plan_cache_mode TO 'force_custom_plan'",
    "idle_session_timeout TO '2s'",
    "idle_in_transaction_session_timeout TO '2s'",
    // A finding of doctor, so it is reset after the first run.
    "default_transaction_read_only TO on",
];

fn finds(server: &Server, line: &str) {
    let doctor = server.doctor("app");
    assert_eq!(doctor.code, Some(i32::from(line.starts_with("fault"))), "{line}");
    assert!(doctor.stdout.contains(line), "{line}: {}{}", doctor.stdout, doctor.stderr);
}

fn is_well(server: &Server, after: &str) {
    let doctor = server.doctor("app");
    assert_eq!(doctor.stdout.trim(), "All is well.", "{after}: {}", doctor.stderr);
}

/// Returns the remedy of the only finding.
fn remedy(server: &Server) -> String {
    let doctor = server.doctor("app");
    let findings: Vec<_> =
        doctor.stdout.lines().filter_map(|line| line.split_once("; remedy: ")).collect();
    assert_eq!(findings.len(), 1, "{}{}", doctor.stdout, doctor.stderr);
    findings[0].1.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_the_database_disturb_neither_migrate_nor_doctor() {
    let server = Server::start();
    server.execute("postgres", &["CREATE DATABASE app"]).await;
    let set = UNUSUAL.map(|setting| format!("ALTER DATABASE app SET {setting}"));
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    server.execute("postgres", &set).await;
    server.execute("postgres", &["ALTER DATABASE app SET row_security TO off"]).await;
    if server.version().await >= 17 {
        let limit = "ALTER DATABASE app SET transaction_timeout TO '1s'";
        server.execute("postgres", &[limit]).await;
    }
    let report = server.migrate("postgres", "app", None).await.unwrap();
    assert_eq!(report.applied.len(), STEPS.len());
    let reset = "ALTER DATABASE app RESET default_transaction_read_only";
    server.execute("postgres", &[reset]).await;
    finds(&server, "fault: role tenantry_app has row_security = off, so its queries fail");
    server.execute("postgres", &[&remedy(&server)]).await;
    is_well(&server, "with unusual settings");
    let report = server.migrate("postgres", "app", None).await.unwrap();
    assert!(report.applied.is_empty() && report.functions.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_remedy_of_a_setting_takes_it_back_where_it_is_made() {
    let server = Server::start();
    server.execute("postgres", &["CREATE DATABASE app"]).await;
    server.migrate("postgres", "app", None).await.unwrap();
    is_well(&server, "after migrate");
    for (place, setting, line) in [
        ("DATABASE app", "row_security TO off", "fault: role tenantry_app has row_security = off"),
        ("ROLE tenantry_app", "row_security TO off", "fault: role tenantry_app has row_security"),
        (
            "ROLE tenantry_app IN DATABASE app",
            "row_security TO off",
            "fault: role tenantry_app has row_security = off",
        ),
        (
            "DATABASE app",
            "default_transaction_read_only TO on",
            "warning: role tenantry_app has default_transaction_read_only = on, so changes are refused",
        ),
        (
            "DATABASE app",
            "session_replication_role TO replica",
            "fault: role tenantry_app has session_replication_role = replica",
        ),
        (
            "ROLE tenantry_app IN DATABASE app",
            "statement_timeout TO '1min'",
            "warning: role tenantry_app has statement_timeout = 1min",
        ),
        (
            "ROLE tenantry_app IN DATABASE app",
            "search_path TO public",
            "fault: role tenantry_app has the search_path public",
        ),
        (
            "ROLE tenantry_app IN DATABASE app",
            "app.current_org_id TO 'x'",
            "starts every connection with the setting app.current_org_id",
        ),
    ] {
        let planted = format!("ALTER {place} SET {setting}");
        server.execute("postgres", &[&planted]).await;
        let doctor = server.doctor("app");
        assert!(doctor.stdout.contains(line), "{planted}: {}{}", doctor.stdout, doctor.stderr);
        let remedy = remedy(&server);
        server.execute("postgres", &[&remedy]).await;
        is_well(&server, &format!("{planted}, {remedy}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_that_cannot_be_called_are_no_fault() {
    let server = Server::start();
    server.execute("postgres", &["CREATE DATABASE app"]).await;
    server.migrate("postgres", "app", None).await.unwrap();
    let body =
        "LANGUAGE plpgsql SECURITY DEFINER SET search_path = 'pg_catalog, pg_temp' AS 'BEGIN END'";
    let functions = [
        format!("CREATE FUNCTION public.pgaudit_ddl_command_end() RETURNS event_trigger {body}"),
        format!("CREATE FUNCTION public.cache_bbox() RETURNS trigger {body}"),
        "CREATE FUNCTION public.estimate(internal) RETURNS int LANGUAGE internal SECURITY DEFINER AS 'int4recv'".to_owned(),
        "CREATE FUNCTION public.handler() RETURNS language_handler LANGUAGE c SECURITY DEFINER AS '$libdir/plpgsql', 'plpgsql_call_handler'".to_owned(),
    ];
    for function in &functions {
        server.execute("app", &[function]).await;
        is_well(&server, function);
    }
    let callable =
        functions[1].replace("RETURNS trigger", "RETURNS void").replace("cache_bbox", "f");
    server.execute("app", &[&callable]).await;
    finds(&server, "fault: function public.f() is SECURITY DEFINER with the rights of postgres");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_of_extensions_are_accepted_from_superusers_only() {
    let server = Server::start();
    server.execute("postgres", &["CREATE DATABASE app", "CREATE ROLE ordinary"]).await;
    server.migrate("postgres", "app", None).await.unwrap();
    let function =
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";
    server.execute("app", &[function, "ALTER EXTENSION plpgsql ADD FUNCTION public.f()"]).await;
    finds(&server, "warning: function public.f() is SECURITY DEFINER with the rights of postgres");
    server.execute("app", &["ALTER FUNCTION public.f() OWNER TO tenantry_owner"]).await;
    finds(
        &server,
        "fault: function public.f() is SECURITY DEFINER with the rights of tenantry_owner",
    );
    server.execute("app", &["ALTER FUNCTION public.f() OWNER TO postgres"]).await;
    // Who installs a trusted extension owns it.
    let own = "UPDATE pg_extension SET extowner = 'ordinary'::regrole WHERE extname = 'plpgsql'";
    server.execute("app", &[own]).await;
    finds(&server, "fault: function public.f() is SECURITY DEFINER with the rights of postgres");
    server.execute("app", &[&remedy(&server)]).await;
    is_well(&server, "the remedy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_grants_nothing_is_no_fault() {
    let server = Server::start();
    server.execute("postgres", &["CREATE DATABASE app", "CREATE DATABASE other"]).await;
    server.migrate("postgres", "app", None).await.unwrap();
    let label = ["CREATE ROLE rds_iam", "GRANT rds_iam TO tenantry_app, tenantry_system"];
    server.execute("app", &label).await;
    is_well(&server, "a label");
    server.execute("app", &["CREATE ROLE rds_ad", "GRANT rds_ad TO rds_iam"]).await;
    server.execute("other", &["CREATE TABLE public.t ()", "GRANT SELECT ON t TO rds_ad"]).await;
    is_well(&server, "a label of a label, with rights in another database");
    for (grant, revoke) in [
        ("GRANT SELECT ON app.projects TO rds_ad", "REVOKE SELECT ON app.projects FROM rds_ad"),
        ("ALTER SCHEMA public OWNER TO rds_ad", "ALTER SCHEMA public OWNER TO postgres"),
        ("ALTER ROLE rds_ad BYPASSRLS", "ALTER ROLE rds_ad NOBYPASSRLS"),
        ("GRANT pg_read_all_data TO rds_ad", "REVOKE pg_read_all_data FROM rds_ad"),
        ("GRANT tenantry_owner TO rds_ad", "REVOKE tenantry_owner FROM rds_ad"),
    ] {
        server.execute("app", &[grant]).await;
        finds(&server, "fault: role tenantry_app is a member of rds_iam");
        server.execute("app", &[revoke]).await;
        is_well(&server, revoke);
    }
    // Providers define powers of roles that have no rights in PostgreSQL.
    server
        .execute("app", &["CREATE ROLE rds_replication", "GRANT rds_replication TO rds_ad"])
        .await;
    finds(&server, "warning: role tenantry_app is a member of rds_iam, which has no rights here");
    server.execute("app", &["REVOKE rds_replication FROM rds_ad"]).await;
    server.execute("app", &["GRANT rds_replication TO tenantry_app"]).await;
    finds(&server, "warning: role tenantry_app is a member of rds_replication");
    server.execute("app", &[&remedy(&server)]).await;
    if server.version().await >= 17 {
        server.execute("app", &["GRANT MAINTAIN ON app.projects TO tenantry_app"]).await;
        finds(&server, "fault: table app.projects grants MAINTAIN to the role");
        server.execute("app", &[&remedy(&server)]).await;
        server.execute("app", &["GRANT pg_maintain TO tenantry_app"]).await;
        finds(&server, "fault: role tenantry_app is a member of pg_maintain");
        server.execute("app", &[&remedy(&server)]).await;
    }
    server.execute("app", &["GRANT ALTER SYSTEM ON PARAMETER fsync TO tenantry_app"]).await;
    finds(&server, "fault: role tenantry_app may set the parameter fsync");
    server.execute("app", &[&remedy(&server)]).await;
    is_well(&server, "the remedies");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_remedy_of_a_login_that_fails_names_its_cause() {
    let server = Server::start();
    server.execute("postgres", &["CREATE DATABASE app"]).await;
    server.migrate("postgres", "app", None).await.unwrap();
    server.execute("app", &["ALTER ROLE tenantry_system NOLOGIN"]).await;
    finds(&server, "fault: role tenantry_system cannot log in");
    server.execute("app", &[&remedy(&server)]).await;
    is_well(&server, "the remedy");
    // `tenantry migrate` would not help: the database is migrated.
    server.execute("app", &["REVOKE USAGE ON SCHEMA migration FROM tenantry_app"]).await;
    finds(&server, "fault: the database at DATABASE_URL cannot be used: permission denied");
}

#[tokio::test]
async fn changes_are_made_while_all_tables_are_published() {
    // As tools that copy a database do, for upgrades without downtime.
    let app = App::start().await;
    app.database.execute("CREATE PUBLICATION everything FOR ALL TABLES").await;
    let owner = app.user("acme-owner");
    let create = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
    let request =
        owner.post().header("idempotency-key", "order-7").json(&json!({ "query": create }));
    let data = Reply::of(request).await.data();
    let id = &data["createProject"]["project"]["id"];
    let change = format!(
        "mutation {{ updateProject(input: {{ id: {id}, name: \"y\" }}) {{ project {{ id }} }}
                     deleteProject(input: {{ id: {id} }}) {{ project {{ id }} }} }}"
    );
    owner.data(&change).await;
    let unidentified =
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('app', 'auth', 'billing', 'audit', 'migration') AND c.relkind = 'r'
          AND c.relpersistence = 'p' AND c.relreplident <> 'f'
          AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)";
    assert_eq!(app.database.value::<i64>(unidentified).await, 0);
}
