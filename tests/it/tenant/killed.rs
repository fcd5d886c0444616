//! Moves that are killed: there is one home at any time, and whoever comes after goes on or calls
//! the move off.

use std::time::{Duration, Instant};

use super::{
    ACME, command, done, home, log_entries, prepared, start, until, verified, writers::Writers,
};
use crate::support::{App, database::Database};

/// Starts a move, and kills it after a while; it may have come to its end.
async fn kill_after(database: &Database, to: &str, pause: Duration) {
    let mut command = prepared(database, &["tenant", "move", "acme", "--to", to]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    tokio::time::sleep(pause).await;
    let _ = child.kill();
    child.wait().unwrap();
}

fn other(home: &str) -> &'static str {
    if home == "schema" { "shared" } else { "schema" }
}

async fn kill_many(app: &App, kills: u32, entries: u32) {
    let database = &app.database;
    log_entries(database, entries).await;
    let writers = Writers::start(app, 3);
    let begun = Instant::now();
    done(&command(database, &["tenant", "move", "acme", "--to", "schema"]).await);
    let whole = begun.elapsed();
    for kill in 0..kills {
        let before = home(database).await;
        let pause = whole.mul_f64(fastrand::f64() * 1.1);
        kill_after(database, other(&before), pause).await;
        let after = home(database).await;
        let state: String = database
            .value(&format!("SELECT concat_ws(' ', home, moving_to, old_home, version) FROM app.placements WHERE organization_id = '{ACME}'"))
            .await;
        eprintln!("killed after {pause:?} of {whole:?}: {state}");
        // It was answered, or not, from where it lives.
        app.person("acme-owner").data("{ organization { projects { nodes { id } } } }").await;
        let target = if kill % 2 == 0 { other(&before) } else { before.as_str() };
        let output = command(database, &["tenant", "move", "acme", "--to", target]).await;
        done(&output);
        assert_eq!(home(database).await, target, "{state}, it was in {after}");
        verified(database).await;
    }
    let book = writers.stop().await;
    book.check(database).await;
    verified(database).await;
    eprintln!("{} writes, the slowest took {:?}", book.writes, book.slowest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_move_goes_on_or_is_called_off() {
    let Some(app) = start().await else { return };
    kill_many(&app, 4, 30_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn twenty_moves_are_killed() {
    let Some(app) = start().await else { return };
    kill_many(&app, 20, 150_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_called_off_leaves_nothing() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    log_entries(database, 60_000).await;
    for stays in ["shared", "schema"] {
        let writers = Writers::start(&app, 2);
        let moving =
            "SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL AND old_home IS NULL";
        let mut command_line =
            prepared(database, &["tenant", "move", "acme", "--to", other(stays)]);
        command_line.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command_line.spawn().unwrap();
        until(database, moving).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let _ = child.kill();
        child.wait().unwrap();
        assert_eq!(home(database).await, stays);
        let noted = "SELECT count(*) FROM app.pending_changes";
        until(database, noted).await;
        assert!(done(&command(database, &["tenant", "list"]).await).contains("moving to"));
        let output = command(database, &["tenant", "move", "acme", "--to", stays]).await;
        assert!(done(&output).contains("was cancelled"), "{}", output.stdout);
        let book = writers.stop().await;
        book.check(database).await;
        verified(database).await;
        let copy = if stays == "shared" {
            "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'org_%'".to_owned()
        } else {
            format!("SELECT count(*) FROM audit.audit_logs WHERE organization_id = '{ACME}'")
        };
        assert_eq!(database.value::<i64>(&copy).await, 0);
        done(
            &command(database, &["tenant", "move", "acme", "--to", "schema", "--drop-source"])
                .await,
        );
        // What the next writers do is told apart from what these did.
        database.execute(&format!("DELETE FROM {}.projects; DELETE FROM {0}.invitations; DELETE FROM {0}.audit_logs WHERE ip_address IS NOT NULL", super::SCHEMA)).await;
    }
}
