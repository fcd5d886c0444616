//! `tenantry tenant`: organizations are moved, verified, exported and restored with the real
//! program, under load.
//!
//! These tests start in the shared tables, so they are skipped where the run places organizations
//! elsewhere.

mod killed;
mod large;
mod maintenance;
mod moving;
mod restoring;
mod verifying;
pub mod writers;

use std::process::Command;

pub use crate::support::process::{failed, succeeded};
use crate::support::{
    App, AppSettings, HANG,
    database::Database,
    placement,
    process::{Output, run, tenantry},
};

pub const ACME: &str = "00000000-0000-4000-8000-00000000000a";
pub const SECRET_KEY: &str = "a secret key for tests with thirty-two bytes or more";
pub const SCHEMA: &str = "org_0000000000004000800000000000000a";

/// Starts a server for many concurrent clients, with plans without limits. `None` where the run
/// places acme elsewhere.
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

/// Runs the program as the superuser, who acts as the owner.
pub fn prepared(database: &Database, arguments: &[&str]) -> Command {
    let mut command = tenantry();
    command
        .args(arguments)
        .env("DATABASE_URL", database.url("tenantry_app"))
        .env("SECRET_KEY", SECRET_KEY)
        .env("MIGRATION_DATABASE_URL", database.url("postgres"));
    command
}

/// Adds audit entries, which make a copy take longer. None of them is about a project of the
/// writers.
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

/// Returns the placement of acme.
pub async fn placement(database: &Database) -> String {
    let sql = format!(
        "SELECT coalesce((SELECT placement FROM app.placements WHERE organization_id = '{ACME}'), 'shared')"
    );
    database.value(&sql).await
}

/// Returns the name of acme's table in its placement.
pub async fn table_in_placement(database: &Database, shared: &str) -> String {
    if placement(database).await == "schema" {
        format!("{SCHEMA}.{}", shared.split('.').next_back().unwrap())
    } else {
        shared.to_owned()
    }
}

/// Waits until the query counts at least one row.
pub async fn wait_until(database: &Database, count: &str) {
    let started = std::time::Instant::now();
    while database.value::<i64>(count).await == 0 {
        assert!(started.elapsed() < HANG, "{count}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Asserts that verification finds no fault.
pub async fn assert_verified(database: &Database) {
    succeeded(&command(database, &["tenant", "verify", "acme"]).await);
    let left: i64 = database.value("SELECT count(*) FROM app.pending_changes").await;
    let moving: i64 =
        database.value("SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL").await;
    if moving == 0 {
        assert_eq!(left, 0);
    }
}
