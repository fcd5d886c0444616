//! Addresses that providers hand out: they work, or the parameter is named.

use super::server::Server;
use crate::support::{
    database::Database,
    process::{Output, run, tenantry},
};

async fn with_address(command: &'static str, setting: &'static str, address: String) -> Output {
    let run = move || run(tenantry().arg(command).env(setting, address));
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn a_parameter_that_cannot_be_used_is_named() {
    for (parameters, expected) in [
        ("sslmod=require", "sslmod"),
        ("pgbouncer=true", "pgbouncer"),
        ("sslmode=verify-full&sslrootcert=/nonexistent/ca.pem", "sslrootcert /nonexistent/ca.pem"),
        ("sslmode=require&sslcert=/nonexistent/c.pem&sslkey=/nonexistent/k.pem", "sslcert"),
        ("sslmode=verify-ca", "sslrootcert"),
        ("sslmode=require&sslrootcert=system", "sslrootcert=system"),
        ("target_session_attrs=prefer-standby", "target_session_attrs"),
        ("gssencmode=disable", "gssencmode"),
    ] {
        let address = |role| format!("postgres://{role}:hunter2@127.0.0.1:1/app?{parameters}");
        for (command, setting, role) in [
            ("doctor", "DATABASE_URL", "tenantry_app"),
            ("migrate", "MIGRATION_DATABASE_URL", "postgres"),
        ] {
            let output = with_address(command, setting, address(role)).await;
            let all = format!("{}{}", output.stdout, output.stderr);
            assert_eq!(output.code, Some(1), "{all}");
            assert!(all.contains(expected), "{command}, {parameters}: {all}");
            assert!(!all.contains("hunter2") && !all.to_lowercase().contains("internal"), "{all}");
        }
    }
}

#[tokio::test]
async fn the_folder_of_a_socket_is_a_parameter_or_the_host() {
    let database = Database::create().await;
    let (socket, name) = (database.socket(), &database.name);
    let socket = socket.display();
    let encoded = socket.to_string().replace('/', "%2F");
    for address in [
        format!("postgres://tenantry_app:pw@/{name}?host={socket}"),
        format!("postgres://tenantry_app:pw@/{name}?host={encoded}&sslmode=require"),
        format!("postgresql:///{name}?host={socket}&user=tenantry_app&password=pw"),
        format!("postgres://tenantry_app:pw@{encoded}/{name}"),
        format!("postgres://tenantry_app:pw@{encoded}:5432/{name}?target_session_attrs=any"),
    ] {
        let output = with_address("doctor", "DATABASE_URL", address.clone()).await;
        assert_eq!(output.stdout, "All is well.\n", "{address}: {}", output.stderr);
    }
}

#[tokio::test]
async fn white_space_around_a_setting_does_not_count() {
    // Secrets that are mounted from files often end with a line break.
    let database = Database::create().await;
    for (before, after) in [("", "\n"), (" ", " "), ("", "\r\n")] {
        let address = format!("{before}{}{after}", database.url("tenantry_app"));
        let output = with_address("doctor", "DATABASE_URL", address.clone()).await;
        assert_eq!(output.stdout, "All is well.\n", "{address:?}: {}", output.stderr);
    }
    let help = || run(tenantry().args(["serve", "--help"]).env("JWT_SECRET", "hunter2 hunter2\n"));
    let help = tokio::task::spawn_blocking(help).await.unwrap();
    assert!(help.code == Some(0) && !help.stdout.contains("hunter2"), "{}", help.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_have_postgresql_s_detail_and_hint() {
    let server = Server::start();
    server.execute("postgres", &["CREATE DATABASE app"]).await;
    server.migrate("postgres", "app", None).await.unwrap();
    let planted = [
        "CREATE VIEW public.v AS SELECT slug FROM auth.viewer_memberships()",
        "UPDATE migration.functions SET digest = '' WHERE name = 'auth.viewer_memberships'",
    ];
    server.execute("app", &planted).await;
    let url = server.url("postgres", "app");
    let output = with_address("migrate", "MIGRATION_DATABASE_URL", url).await;
    assert_eq!(output.code, Some(1), "{}", output.stdout);
    for part in ["cannot drop function", "view public.v depends on", "Use DROP ... CASCADE"] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    assert!(!output.stderr.contains("at line"), "{}", output.stderr);
}
