//! `tenantry tenant`: organizations are moved, verified, exported and brought back, by the real
//! program, while people work.
//!
//! These tests begin in the shared tables, so they have nothing to say where others live elsewhere
//! from the beginning.

mod killed;
mod large;
mod maintenance;
mod moving;
mod restoring;
mod verifying;
pub mod writers;

use std::process::Command;

use crate::support::{
    App, AppSettings,
    database::Database,
    placement,
    process::{Output, run, tenantry},
};

pub const ACME: &str = "00000000-0000-4000-8000-00000000000a";
pub const SECRET_KEY: &str = "a secret key for tests with thirty-two bytes or more";
pub const SCHEMA: &str = "org_0000000000004000800000000000000a";

/// A server that many may ask at once, and plans that end no test; none where acme lives elsewhere
/// from the beginning.
pub async fn start() -> Option<App> {
    if !placement::all_are_shared() {
        return None;
    }
    let database = Database::create().await;
    database.execute("UPDATE billing.plan_features SET limit_value = NULL").await;
    let settings = AppSettings { max_connections: 12, running: 8, ..AppSettings::default() };
    Some(App::on(database, settings).await)
}

pub async fn command(database: &Database, arguments: &[&str]) -> Output {
    let mut command = prepared(database, arguments);
    tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap()
}

/// As the superuser, who acts as the owner.
pub fn prepared(database: &Database, arguments: &[&str]) -> Command {
    let mut command = tenantry();
    command
        .args(arguments)
        .env("DATABASE_URL", database.url("tenantry_app"))
        .env("SECRET_KEY", SECRET_KEY)
        .env("MIGRATION_DATABASE_URL", database.url("postgres"));
    command
}

#[track_caller]
pub fn done(output: &Output) -> &str {
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    &output.stdout
}

#[track_caller]
pub fn refused(output: &Output, reason: &str) {
    assert_eq!(output.code, Some(1), "{}", output.stdout);
    let last = output.stderr.lines().last().unwrap_or_default();
    assert!(last.contains(reason), "{}", output.stderr);
}

/// Entries that make a copy take its time, none of which tells of a project of the writers.
pub async fn log_entries(database: &Database, count: u32) {
    database
        .execute(&format!(
            "INSERT INTO audit.audit_logs (organization_id, actor_name, action, resource_type, metadata, created_at)
             SELECT '{ACME}', 'Olivia', 'project.updated', 'project', jsonb_build_object('name', 'entry ' || n),
                    now() - n * interval '1 second'
             FROM generate_series(1, {count}) n"
        ))
        .await;
}

/// Where acme lives.
pub async fn home(database: &Database) -> String {
    let sql = format!(
        "SELECT coalesce((SELECT home FROM app.placements WHERE organization_id = '{ACME}'), 'shared')"
    );
    database.value(&sql).await
}

/// The name of acme's table in its home.
pub async fn at_home(database: &Database, shared: &str) -> String {
    if home(database).await == "schema" {
        format!("{SCHEMA}.{}", shared.split('.').next_back().unwrap())
    } else {
        shared.to_owned()
    }
}

/// Waits until there is something to count.
pub async fn until(database: &Database, count: &str) {
    let begun = std::time::Instant::now();
    while database.value::<i64>(count).await == 0 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{count}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Everything is as it should be.
pub async fn verified(database: &Database) {
    done(&command(database, &["tenant", "verify", "acme"]).await);
    let left: i64 = database.value("SELECT count(*) FROM app.pending_changes").await;
    let moving: i64 =
        database.value("SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL").await;
    if moving == 0 {
        assert_eq!(left, 0);
    }
}
