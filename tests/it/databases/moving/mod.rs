//! Organizations move to a database of their own and back, by the real program, while people work.

mod differing;
mod interrupted;
mod killed;
mod large;
mod whole;
mod writing;

use std::process::{Child, Command, Stdio};

use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::rows;
use crate::{
    support::{
        App, AppSettings,
        database::Database,
        dedicated::DedicatedDatabase,
        placement::{ACME, housed},
        process::{Output, run},
    },
    tenant::{done, prepared},
};

/// A server that many may ask at once, which knows the database `eu`.
async fn start() -> Option<(App, DedicatedDatabase)> {
    if !housed().is_empty() {
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

async fn go(database: &Database, eu: &DedicatedDatabase, to: &str) -> Output {
    let output = command(database, eu, &["tenant", "move", "acme", "--to", to]).await;
    done(&output);
    output
}

fn spawn(database: &Database, eu: &DedicatedDatabase, to: &str) -> Child {
    let mut command = command_line(database, eu, &["tenant", "move", "acme", "--to", to]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// What it says is kept.
fn spawn_piped(database: &Database, eu: &DedicatedDatabase, to: &str) -> Child {
    let mut command = command_line(database, eu, &["tenant", "move", "acme", "--to", to]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn kill(mut child: Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

/// Holds something locked until the connection is dropped.
async fn holding(database: &Database, sql: &str) -> PgConnection {
    let mut connection = database.connect_admin().await;
    connection.execute("BEGIN").await.unwrap();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    connection
}

/// What both say of acme: home, generation, where to.
async fn placements(database: &Database, eu: &DedicatedDatabase) -> (String, String) {
    let sql = format!(
        "SELECT coalesce((SELECT concat_ws(' ', home, generation, moving_to) FROM app.placements WHERE organization_id = '{ACME}'), '-')"
    );
    (database.exactly(&sql).await, eu.database.exactly(&sql).await)
}

/// Where acme lives: the one database that says so.
async fn lives(database: &Database, eu: &DedicatedDatabase) -> Database {
    let (ours, theirs) = placements(database, eu).await;
    match (ours.starts_with("shared") || ours == "-", theirs.starts_with("shared")) {
        (true, false) => database.clone(),
        (false, true) => eu.database.clone(),
        (true, true) => panic!("two homes: {ours} and {theirs}"),
        (false, false) => panic!("no home: {ours} and {theirs}"),
    }
}

async fn verified(database: &Database, eu: &DedicatedDatabase) {
    done(&command(database, eu, &["tenant", "verify", "acme"]).await);
    let home = lives(database, eu).await;
    let left: i64 = home.exactly("SELECT count(*) FROM app.pending_changes").await;
    assert_eq!(left, 0);
}

/// All rows of acme, without those that tell of moves.
async fn contents(database: &Database) -> Vec<(&'static str, Vec<String>)> {
    let mut all = rows(database, ACME).await;
    for (_, rows) in &mut all {
        rows.retain(|row| !row.contains("tenantry tenant move"));
    }
    all
}

/// Calls are counted while we look.
async fn without_usage(database: &Database) -> Vec<(&'static str, Vec<String>)> {
    let mut all = contents(database).await;
    all.retain(|(table, _)| *table != "billing.usage");
    all
}
