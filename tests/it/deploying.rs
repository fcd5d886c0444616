//! The files of `assets/deploy`, and the backup that `docs/deploying.md` describes.

use std::{path::Path, process::Command};

use embedded_postgres::{Embedded, Options};
use pg::{Client, ConnectOptions};
use serde_json::Value;

use crate::support::{
    app::SECRET,
    cluster::{self, Cluster},
    database::Database,
    node,
    process::{failed, run, succeeded, tenantry},
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

/// Runs the step of the Containerfile that collects the files of the image, and then the program
/// with these files alone, as the user of the image.
#[test]
fn the_image_has_everything_that_the_program_needs() {
    let certificates = Path::new("/etc/ssl/certs/ca-certificates.crt").exists();
    if !certificates || !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root and the package ca-certificates");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read_to_string(root.join("assets/deploy/Containerfile")).unwrap();
    let file = file.replace("\\\n", " ");
    let line = |start: &str| file.lines().find_map(|line| line.strip_prefix(start)).unwrap();
    let folder = cluster::new_folder();
    let image = folder.join("image").display().to_string();
    let step = format!("mkdir{}", line("RUN mkdir"))
        .replace("target/release/tenantry", env!("CARGO_BIN_EXE_tenantry"))
        .replace("/image", &image);
    succeeded(&run(Command::new("sh").args(["-ec", &step])));

    let user = line("USER ");
    let in_image = |argument: &str| {
        let mut command = Command::new("/usr/sbin/chroot");
        let program = line("ENTRYPOINT ").trim_matches(['[', ']', '"']);
        command.args([&format!("--userspec={user}"), &image, program, argument]);
        run(command.env_clear().env("LISTEN_ADDR", "127.0.0.1:1"))
    };
    assert_eq!(succeeded(&in_image("schema")), tenantry::schema::sdl());
    failed(&in_image("health"), "no server listens at 127.0.0.1:1");
}

const ROWS: &str = "SELECT string_agg(format('%s.%s %s', schemaname, tablename,
        (xpath('/row/count/text()', query_to_xml(format('SELECT count(*) FROM %I.%I', schemaname, tablename),
            false, true, '')))[1]), E'\\n' ORDER BY schemaname, tablename)
     FROM pg_tables WHERE schemaname IN ('app', 'auth', 'billing', 'audit', 'migration')";

/// Runs statements as the superuser, each in a transaction.
fn execute(options: &ConnectOptions, statements: &[&str]) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let admin = Client::connect(options).await.unwrap();
        for statement in statements {
            admin.batch(statement).await.unwrap();
        }
        admin.close().await;
    });
}

/// As on a managed service: no login is a superuser.
#[test]
fn a_backup_restores_into_another_server() {
    let source = Cluster::start(&[]);
    execute(&source.admin(), &["CREATE ROLE backup LOGIN", "GRANT tenantry_owner TO backup"]);
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
    let from = source.url_of("app", "backup");
    let (to, server) = (target.url("migrator", "app"), target.url("migrator", "postgres"));
    let roles = target.url("migrator", "tenantry_roles");
    let admin = target.admin_url().parse().unwrap();
    execute(&admin, &["CREATE ROLE migrator LOGIN CREATEROLE CREATEDB"]);
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
    psql("psql", &["--quiet", "--command", "CREATE DATABASE tenantry_roles", &server]);
    migrate(&format!("migrate --migration-database-url {roles}"));
    psql("psql", &["--quiet", "--command", "DROP DATABASE tenantry_roles", &server]);
    psql("psql", &["--quiet", "--command", "CREATE DATABASE app", &server]);
    psql("pg_restore", &["--exit-on-error", "--dbname", &to, dump]);
    migrate("migrate");
    migrate("doctor");

    let rows = |url: &str| psql("psql", &["--no-align", "--tuples-only", "--command", ROWS, url]);
    let (from, to) = (source.url_of("app", "postgres"), target.url("postgres", "app"));
    let expected = rows(&from);
    assert!(expected.contains("app.organizations 4"), "{expected}");
    assert_eq!(rows(&to), expected);
}
