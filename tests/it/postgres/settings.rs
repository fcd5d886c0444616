//! Settings of the server, the database and the roles, and other programs in the database.

use migration::STEPS;

use super::server::Server;

/// Settings that change how SQL is read and how expressions are printed, and time limits.
const UNUSUAL: [&str; 15] = [
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
    let report = server.migrate("postgres", "app", None).await.unwrap();
    assert_eq!(report.applied.len(), STEPS.len());
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
async fn a_role_that_grants_nothing_is_no_fault() {
    let server = Server::start();
    server.execute("postgres", &["CREATE DATABASE app", "CREATE DATABASE other"]).await;
    server.migrate("postgres", "app", None).await.unwrap();
    let label = ["CREATE ROLE rds_iam", "GRANT rds_iam TO tenantry_app, tenantry_system"];
    server.execute("app", &label).await;
    is_well(&server, "a label");
    server.execute("app", &["CREATE ROLE outer_label", "GRANT outer_label TO rds_iam"]).await;
    server
        .execute("other", &["CREATE TABLE public.t ()", "GRANT SELECT ON t TO outer_label"])
        .await;
    is_well(&server, "a label of a label, with rights in another database");
    for (grant, revoke) in [
        (
            "GRANT SELECT ON app.projects TO outer_label",
            "REVOKE SELECT ON app.projects FROM outer_label",
        ),
        ("ALTER SCHEMA public OWNER TO outer_label", "ALTER SCHEMA public OWNER TO postgres"),
        ("ALTER ROLE outer_label BYPASSRLS", "ALTER ROLE outer_label NOBYPASSRLS"),
        ("GRANT pg_read_all_data TO outer_label", "REVOKE pg_read_all_data FROM outer_label"),
        ("GRANT tenantry_owner TO outer_label", "REVOKE tenantry_owner FROM outer_label"),
    ] {
        server.execute("app", &[grant]).await;
        finds(&server, "fault: role tenantry_app is a member of rds_iam");
        server.execute("app", &[revoke]).await;
        is_well(&server, revoke);
    }
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
