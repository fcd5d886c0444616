//! The files of `assets/deploy`, and the backup that `docs/deploying.md` describes.

use std::{path::Path, process::Command};

use embedded_postgres::{Embedded, Options};
use serde_json::Value;

use crate::support::{
    app::SECRET,
    cluster::{self, Cluster},
    database::Database,
    node,
    process::{run, succeeded, tenantry},
    server_process::ServerProcess,
};

/// Checks all files, and returns the environment of each service of the compose file.
async fn environments() -> Option<Value> {
    let scripts = node::packages().await?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new("node");
        command.arg("deploy.mjs").arg(root.join("assets/deploy"));
        command.arg(root.join("docs/configuration.md")).current_dir(scripts).output().unwrap()
    })
    .await
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test]
async fn the_settings_of_the_compose_file_migrate_and_serve() {
    let Some(services) = environments().await else {
        eprintln!("SKIPPED: npm is not installed");
        return;
    };
    let database = Database::empty().await;
    let settings = |service: &str| -> Vec<(String, String)> {
        let variables = services[service].as_object().unwrap().iter();
        let value = |text: &str| match text {
            text if text.starts_with("postgres://postgres:") => database.url("postgres"),
            text if text.starts_with("postgres://tenantry_app:") => database.url("tenantry_app"),
            text if text.contains("SECRET") => SECRET.to_owned(),
            // As with an empty line in the file .env.
            _ => String::new(),
        };
        variables.map(|(name, text)| (name.clone(), value(text.as_str().unwrap()))).collect()
    };
    let mut migrate = tenantry();
    migrate.arg("migrate").envs(settings("migrate"));
    let output = tokio::task::spawn_blocking(move || run(&mut migrate)).await.unwrap();
    succeeded(&output);

    let serve = settings("serve");
    let serve: Vec<_> = serve.iter().map(|(name, value)| (&**name, &**value)).collect();
    let server = ServerProcess::start(&database.url("tenantry_app"), &serve);
    let mut health = tenantry();
    health.args(["health", "--ready"]).env("ADMIN_ADDR", &server.admin["http://".len()..]);
    let output = tokio::task::spawn_blocking(move || run(&mut health)).await.unwrap();
    succeeded(&output);
}

const ROWS: &str = "SELECT string_agg(format('%s.%s %s', schemaname, tablename,
        (xpath('/row/count/text()', query_to_xml(format('SELECT count(*) FROM %I.%I', schemaname, tablename),
            false, true, '')))[1]), E'\\n' ORDER BY schemaname, tablename)
     FROM pg_tables WHERE schemaname IN ('app', 'auth', 'billing', 'audit', 'migration')";

#[test]
fn a_backup_restores_into_another_server() {
    let source = Cluster::start(&[]);
    let folder = cluster::new_folder();
    let options = Options { folder: folder.join("target"), throwaway: true };
    let target = Embedded::start(&options).unwrap();
    let psql = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(target.program(program));
        let output = run(command.args(arguments).env_remove("PGPASSWORD"));
        succeeded(&output).to_owned()
    };
    let dump = folder.join("app.dump");
    let dump = dump.to_str().unwrap();
    let from = source.url_of("app", "postgres");
    let (to, server) = (target.url("postgres", "app"), target.url("postgres", "postgres"));
    let migrate = |command: &str| {
        let mut command = command.split(' ').fold(tenantry(), |mut all, word| {
            all.arg(word);
            all
        });
        command
            .env("MIGRATION_DATABASE_URL", &to)
            .env("DATABASE_URL", target.url("tenantry_app", "app"));
        succeeded(&run(&mut command)).to_owned()
    };

    psql(
        "pg_dump",
        &[
            "--format=custom",
            "--role=tenantry_owner",
            "--enable-row-security",
            "--file",
            dump,
            &from,
        ],
    );
    // The first run creates the roles, which belong to the server and not to the backup.
    psql("psql", &["--quiet", "--command", "CREATE DATABASE app", &server]);
    migrate("migrate");
    psql("psql", &["--quiet", "--command", "DROP DATABASE app", &server]);
    psql("psql", &["--quiet", "--command", "CREATE DATABASE app", &server]);
    psql("pg_restore", &["--exit-on-error", "--dbname", &to, dump]);
    assert!(migrate("migrate").contains("up to date"));
    migrate("doctor");

    let rows = |url: &str| psql("psql", &["--no-align", "--tuples-only", "--command", ROWS, url]);
    let expected = rows(&from);
    assert!(expected.contains("app.organizations 4"), "{expected}");
    assert_eq!(rows(&to), expected);
}
