//! Moves to a dedicated database and back, with the real program, under load.

mod concurrent_writes;
mod interrupted;
mod killed;
mod large;
mod round_trip;
mod verification;

use std::process::{Child, Command, Stdio};

use pg::Client;

use super::rows;
use crate::{
    support::{
        App, AppSettings,
        database::Database,
        dedicated::DedicatedDatabase,
        placement::{ACME, organizations_in_schemas},
        process::{Output, run},
    },
    tenant::{prepared, succeeded},
};

/// Starts a server for many concurrent clients, with the dedicated database `eu`.
async fn start() -> Option<(App, DedicatedDatabase)> {
    if !organizations_in_schemas().is_empty() {
        return None;
    }
    let database = Database::create().await;
    database.execute("UPDATE billing.plan_features SET limit_value = NULL").await;
    let eu = database.dedicated("eu").await;
    let settings = AppSettings {
        max_connections: 12,
        running: 8,
        dedicated: vec![eu.clone()],
        ..AppSettings::default()
    };
    Some((App::on(database, settings).await, eu))
}

fn command_line(database: &Database, eu: &DedicatedDatabase, arguments: &[&str]) -> Command {
    let mut command = prepared(database, arguments);
    command.env("MIGRATION_DATABASES", eu.setting("postgres"));
    command
}

async fn command(database: &Database, eu: &DedicatedDatabase, arguments: &[&str]) -> Output {
    let mut command = command_line(database, eu, arguments);
    tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap()
}

async fn run_move(database: &Database, eu: &DedicatedDatabase, to: &str) -> Output {
    let output = command(database, eu, &["tenant", "move", "acme", "--to", to]).await;
    succeeded(&output);
    output
}

fn spawn(database: &Database, eu: &DedicatedDatabase, to: &str) -> Child {
    let mut command = command_line(database, eu, &["tenant", "move", "acme", "--to", to]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Spawns the command with its output captured.
fn spawn_piped(database: &Database, eu: &DedicatedDatabase, to: &str) -> Child {
    let mut command = command_line(database, eu, &["tenant", "move", "acme", "--to", to]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn kill(mut child: Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

/// Runs a statement and holds its locks until the connection is dropped.
async fn hold_locks(database: &Database, sql: &str) -> Client {
    let connection = database.connect_admin().await;
    connection.batch("BEGIN").await.unwrap();
    connection.batch(sql).await.unwrap();
    connection
}

/// Returns the placement of acme in both databases: home, generation and destination.
async fn placements(database: &Database, eu: &DedicatedDatabase) -> (String, String) {
    let sql = format!(
        "SELECT coalesce((SELECT concat_ws(' ', placement, generation, moving_to) FROM app.placements WHERE organization_id = '{ACME}'), '-')"
    );
    (database.exactly(&sql).await, eu.database.exactly(&sql).await)
}

/// Returns the only database that claims acme.
async fn serving_database(database: &Database, eu: &DedicatedDatabase) -> Database {
    let (ours, theirs) = placements(database, eu).await;
    match (ours.starts_with("shared") || ours == "-", theirs.starts_with("shared")) {
        (true, false) => database.clone(),
        (false, true) => eu.database.clone(),
        (true, true) => panic!("two placements: {ours} and {theirs}"),
        (false, false) => panic!("no placement: {ours} and {theirs}"),
    }
}

async fn assert_verified(database: &Database, eu: &DedicatedDatabase) {
    succeeded(&command(database, eu, &["tenant", "verify", "acme"]).await);
    let placement = serving_database(database, eu).await;
    let left: i64 = placement.exactly("SELECT count(*) FROM app.pending_changes").await;
    assert_eq!(left, 0);
}

/// Returns all rows of acme except those about moves.
async fn rows_of_acme(database: &Database) -> Vec<(&'static str, Vec<String>)> {
    let mut all = rows(database, ACME).await;
    for (_, rows) in &mut all {
        rows.retain(|row| !row.contains("tenantry tenant move"));
    }
    all
}

/// Returns the rows without the usage, which counts the calls of the test itself.
async fn without_usage(database: &Database) -> Vec<(&'static str, Vec<String>)> {
    let mut all = rows_of_acme(database).await;
    all.retain(|(table, _)| *table != "billing.usage");
    all
}
