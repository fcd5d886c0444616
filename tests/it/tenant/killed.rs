//! Moves that are killed: an organization has one placement at any time, and the next command
//! continues or cancels the move.

use std::time::{Duration, Instant};

use super::{
    ACME, assert_verified, command, log_entries, placement, prepared, start, succeeded, wait_until,
    writers::Writers,
};
use crate::support::{App, database::Database};

/// Starts a move and kills it after a pause. It may have completed.
async fn kill_after(database: &Database, to: &str, pause: Duration) {
    let mut command = prepared(database, &["tenant", "move", "acme", "--to", to]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    tokio::time::sleep(pause).await;
    let _ = child.kill();
    child.wait().unwrap();
}

fn other(placement: &str) -> &'static str {
    if placement == "schema" { "shared" } else { "schema" }
}

async fn kill_many(app: &App, kills: u32, entries: u32) {
    let database = &app.database;
    log_entries(database, entries).await;
    let writers = Writers::start(app, 3);
    let started = Instant::now();
    succeeded(&command(database, &["tenant", "move", "acme", "--to", "schema"]).await);
    let complete = started.elapsed();
    for kill in 0..kills {
        let before = placement(database).await;
        let pause = complete.mul_f64(fastrand::f64() * 1.1);
        kill_after(database, other(&before), pause).await;
        let after = placement(database).await;
        let state: String = database
            .value(&format!("SELECT concat_ws(' ', placement, moving_to, old_placement, version) FROM app.placements WHERE organization_id = '{ACME}'"))
            .await;
        eprintln!("killed after {pause:?} of {complete:?}: {state}");
        // The request is answered from where acme lives, or rejected.
        app.user("acme-owner").data("{ organization { projects { nodes { id } } } }").await;
        let target = if kill % 2 == 0 { other(&before) } else { before.as_str() };
        let output = command(database, &["tenant", "move", "acme", "--to", target]).await;
        succeeded(&output);
        assert_eq!(placement(database).await, target, "{state}, it was in {after}");
        assert_verified(database).await;
    }
    let write_log = writers.stop().await;
    write_log.check(database).await;
    assert_verified(database).await;
    eprintln!("{} writes, the slowest took {:?}", write_log.writes, write_log.slowest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_move_is_continued_or_cancelled() {
    let Some(app) = start().await else { return };
    kill_many(&app, 4, 30_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn twenty_killed_moves_are_continued_or_cancelled() {
    let Some(app) = start().await else { return };
    kill_many(&app, 20, 150_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_move_leaves_nothing_behind() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    log_entries(database, 60_000).await;
    for stays in ["shared", "schema"] {
        let writers = Writers::start(&app, 2);
        let moving = "SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL AND old_placement IS NULL";
        let mut command_line =
            prepared(database, &["tenant", "move", "acme", "--to", other(stays)]);
        command_line.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command_line.spawn().unwrap();
        wait_until(database, moving).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let _ = child.kill();
        child.wait().unwrap();
        assert_eq!(placement(database).await, stays);
        let noted = "SELECT count(*) FROM app.pending_changes";
        wait_until(database, noted).await;
        assert!(succeeded(&command(database, &["tenant", "list"]).await).contains("moving to"));
        let output = command(database, &["tenant", "move", "acme", "--to", stays]).await;
        assert!(succeeded(&output).contains("was cancelled"), "{}", output.stdout);
        let write_log = writers.stop().await;
        write_log.check(database).await;
        assert_verified(database).await;
        let copy = if stays == "shared" {
            "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'org_%'".to_owned()
        } else {
            format!("SELECT count(*) FROM audit.audit_logs WHERE organization_id = '{ACME}'")
        };
        assert_eq!(database.value::<i64>(&copy).await, 0);
        succeeded(
            &command(database, &["tenant", "move", "acme", "--to", "schema", "--drop-source"])
                .await,
        );
        // Delete the writers' rows, because the next writers use the same names.
        database.execute(&format!("DELETE FROM {}.projects; DELETE FROM {0}.invitations; DELETE FROM {0}.audit_logs WHERE ip_address IS NOT NULL", super::SCHEMA)).await;
    }
}
