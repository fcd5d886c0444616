//! Unencrypted connections to PostgreSQL on another host, which a network could read or change. The
//! commands report an address that allows it, without its password.

use crate::support::{
    app::SECRET,
    database::Database,
    process::{Output, run, tenantry},
    server_process::ServerProcess,
};

const ELSEWHERE: &str = "postgres://tenantry_app:hunter2@db.example/app";

/// Runs `tenantry doctor` with these settings.
async fn doctor(database: &Database, settings: &[(&str, String)]) -> Output {
    let mut command = tenantry();
    command.arg("doctor").env("DATABASE_URL", database.url("tenantry_app"));
    command.envs(settings.iter().map(|(name, value)| (*name, value)));
    tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap()
}

#[tokio::test]
async fn doctor_reports_a_connection_to_another_host_that_may_be_unencrypted() {
    let database = Database::create().await;
    for sslmode in ["", "?sslmode=disable", "?sslmode=allow", "?sslmode=prefer"] {
        let weak = format!("{ELSEWHERE}{sslmode}");
        for setting in ["DATABASE_LISTEN_URL", "DATABASE_REPLICA_URL"] {
            let output = doctor(&database, &[(setting, weak.clone())]).await;
            assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
            let warning = format!("warning: {setting} connects to db.example with sslmode=");
            assert!(output.stdout.contains(&warning), "{}", output.stdout);
            assert!(output.stdout.contains("sslmode=verify-full"), "{}", output.stdout);
            assert!(!(output.stdout + &output.stderr).contains("hunter2"));
        }
    }
    // Connections to this address are refused at once.
    let weak = format!("eu={}", ELSEWHERE.replace("db.example", "0.0.0.0:1"));
    let output = doctor(&database, &[("DATABASES", weak)]).await;
    assert!(
        output.stdout.contains("warning: DATABASES: eu connects to 0.0.0.0"),
        "{}",
        output.stdout
    );
}

#[tokio::test]
async fn doctor_accepts_tls_and_this_host() {
    let database = Database::create().await;
    for url in [
        format!("{ELSEWHERE}?sslmode=require"),
        format!("{ELSEWHERE}?sslmode=verify-full"),
        "postgres://tenantry_app@127.0.0.1:1/app".to_owned(),
        "postgres://tenantry_app@[::1]:1/app".to_owned(),
        "postgres://tenantry_app@localhost/app?host=/run/postgresql".to_owned(),
    ] {
        let output = doctor(&database, &[("DATABASE_LISTEN_URL", url)]).await;
        assert_eq!(output.stdout, "All is well.\n", "{}", output.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_logs_a_warning_when_it_starts() {
    let database = Database::create().await;
    let url = database.url("tenantry_app");
    let start = move || ServerProcess::start(&url, &[("DATABASE_LISTEN_URL", ELSEWHERE)]);
    let server = tokio::task::spawn_blocking(start).await.unwrap();
    let log = server.log();
    assert!(
        log.contains("DATABASE_LISTEN_URL connects to db.example with sslmode=prefer"),
        "{log}"
    );
    assert!(!log.contains("hunter2"), "{log}");

    // The warning comes before the first connection.
    let mut command = tenantry();
    let address = ELSEWHERE.replace("db.example", "0.0.0.0:1");
    command.arg("serve").env("DATABASE_URL", address).env("JWT_SECRET", SECRET);
    let settings = [("SECRET_KEY", "a secret key for tests with thirty-two bytes or more")];
    command.envs(settings).envs([("JWT_ISSUER", "any"), ("JWT_AUDIENCE", "any")]);
    let output = tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap();
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("DATABASE_URL connects to 0.0.0.0"), "{}", output.stderr);
    assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
}

#[tokio::test]
async fn commands_warn_about_the_owner_s_connection() {
    let weak = ELSEWHERE.replace("db.example", "0.0.0.0:1");
    for arguments in [&["migrate"][..], &["tenant", "list"]] {
        let mut command = tenantry();
        command.args(arguments).env("MIGRATION_DATABASE_URL", &weak);
        let output = tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap();
        assert_eq!(output.code, Some(1));
        assert!(
            output.stderr.contains("warning: MIGRATION_DATABASE_URL connects to 0.0.0.0"),
            "{}",
            output.stderr
        );
        assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
    }
}
