//! Writes during the switch: the move waits for them and copies them.

use super::{
    assert_verified, hold_locks,
    interrupted::{COPYING, LOG, WAITS_FOR_LOCK},
    kill, run_move, serving_database, spawn_piped, start, succeeded, without_usage,
};
use crate::{
    support::placement::ACME,
    tenant::{log_entries, wait_until},
};

const WAITS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_switch_waits_for_running_writes() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    log_entries(database, 40_000).await;
    for to in ["database:eu", "shared"] {
        let old = serving_database(database, &eu).await;
        let new = if to == "shared" { database } else { &eu.database };
        // The move copies nothing before the writer has begun.
        let lock = hold_locks(new, LOG).await;
        let mover = spawn_piped(database, &eu, to);
        wait_until(new, WAITS_FOR_LOCK).await;
        let writer = old.connect_app().await;
        writer.batch("BEGIN").await.unwrap();
        let open = old.opening("acme-owner", "acme").await;
        writer.batch(&open).await.unwrap();
        let write = format!(
            "SELECT auth.claim_idempotency_key('key {to}', sha256('x'), '1 minute'), auth.store_response('{ACME}', 'key {to}', 'y');
             INSERT INTO app.projects (organization_id, name) VALUES ('{ACME}', 'last {to}')"
        );
        writer.batch(&write).await.unwrap();
        drop(lock);
        wait_until(database, COPYING).await;
        let rename = format!("UPDATE app.organizations SET name = 'Acme {to}' WHERE id = '{ACME}'");
        writer.batch(&rename).await.unwrap();
        wait_until(&old, WAITS).await;
        assert_eq!(serving_database(database, &eu).await.name, old.name);
        writer.batch("COMMIT").await.unwrap();
        let written = without_usage(&old).await;
        let output = tokio::task::spawn_blocking(move || mover.wait_with_output().unwrap());
        let output = output.await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(serving_database(database, &eu).await.name, new.name);
        assert_eq!(without_usage(new).await, written);
        let keys: i64 = new
            .exactly(&format!("SELECT count(*) FROM auth.idempotency_keys WHERE key = 'key {to}' AND response IS NOT NULL"))
            .await;
        assert_eq!(keys, 1);
        assert_verified(database, &eu).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_back_that_lost_track_of_writers_starts_again() {
    let Some((app, eu)) = start().await else { return };
    let (database, there) = (&app.database, &eu.database);
    log_entries(database, 40_000).await;
    run_move(database, &eu, "database:eu").await;
    let mover = super::spawn(database, &eu, "shared");
    wait_until(database, COPYING).await;
    wait_until(
        database,
        &format!("SELECT count(*) FROM app.projects WHERE organization_id = '{ACME}'"),
    )
    .await;
    kill(mover);
    // As when the command is killed while it cancels the move.
    wait_until(there, "SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL").await;
    there
        .execute("UPDATE app.placements SET moving_to = NULL; DELETE FROM app.pending_changes")
        .await;
    app.user("acme-owner")
        .data("mutation { createProject(input: { name: \"unnoticed\" }) { project { id } } }")
        .await;
    there
        .execute("UPDATE app.projects SET name = 'unnoticed as well' WHERE name = 'Rocket skates'")
        .await;
    let written = without_usage(there).await;
    let output = run_move(database, &eu, "shared").await;
    assert!(!output.stderr.contains("continuing the move"), "{}", output.stderr);
    assert_eq!(without_usage(database).await, written);
    assert_verified(database, &eu).await;
    let listed = super::command(database, &eu, &["tenant", "list"]).await;
    assert!(succeeded(&listed).contains("stale copy in the database eu"), "{}", listed.stdout);
}
