//! Whoever writes at the switch is waited for, and what they wrote arrives.

use sqlx::{AssertSqlSafe, Executor};

use super::{
    done, go, interrupted::BRINGS, kill, lives, spawn_piped, start, verified, without_usage,
};
use crate::{
    support::placement::ACME,
    tenant::{log_entries, until},
};

const WAITS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_writes_at_the_switch_is_waited_for() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    log_entries(database, 40_000).await;
    for to in ["database:eu", "shared"] {
        let old = lives(database, &eu).await;
        let mover = spawn_piped(database, &eu, to);
        until(database, BRINGS).await;
        until(&old, "SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL").await;
        let mut writer = old.connect_app().await;
        writer.execute("BEGIN").await.unwrap();
        let open = old.opening("acme-owner", "acme").await;
        writer.execute(AssertSqlSafe(open)).await.unwrap();
        let write = format!(
            "SELECT auth.claim_idempotency_key('key {to}', sha256('x'), '1 minute'), auth.keep_response('{ACME}', 'key {to}', 'y');
             INSERT INTO app.projects (organization_id, name) VALUES ('{ACME}', 'last {to}');
             UPDATE app.organizations SET name = 'Acme {to}' WHERE id = '{ACME}'"
        );
        writer.execute(AssertSqlSafe(write)).await.unwrap();
        until(&old, WAITS).await;
        assert_eq!(lives(database, &eu).await.name, old.name);
        writer.execute("COMMIT").await.unwrap();
        let written = without_usage(&old).await;
        let output = tokio::task::spawn_blocking(move || mover.wait_with_output().unwrap());
        let output = output.await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let new = lives(database, &eu).await;
        assert_ne!(new.name, old.name);
        assert_eq!(without_usage(&new).await, written);
        let keys: i64 = new
            .exactly(&format!("SELECT count(*) FROM auth.idempotency_keys WHERE key = 'key {to}' AND response IS NOT NULL"))
            .await;
        assert_eq!(keys, 1);
        verified(database, &eu).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_home_of_which_writers_were_told_no_more_begins_anew() {
    let Some((app, eu)) = start().await else { return };
    let (database, there) = (&app.database, &eu.database);
    log_entries(database, 40_000).await;
    go(database, &eu, "database:eu").await;
    let mover = super::spawn(database, &eu, "shared");
    until(database, BRINGS).await;
    until(database, &format!("SELECT count(*) FROM app.projects WHERE organization_id = '{ACME}'"))
        .await;
    kill(mover);
    // As when it is killed while it is called off.
    until(there, "SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL").await;
    there
        .execute("UPDATE app.placements SET moving_to = NULL; DELETE FROM app.pending_changes")
        .await;
    app.person("acme-owner")
        .data("mutation { createProject(input: { name: \"unnoticed\" }) { project { id } } }")
        .await;
    there
        .execute("UPDATE app.projects SET name = 'unnoticed as well' WHERE name = 'Rocket skates'")
        .await;
    let written = without_usage(there).await;
    let output = go(database, &eu, "shared").await;
    assert!(!output.stderr.contains("continuing the move"), "{}", output.stderr);
    assert_eq!(without_usage(database).await, written);
    verified(database, &eu).await;
    let listed = super::command(database, &eu, &["tenant", "list"]).await;
    assert!(done(&listed).contains("stale copy in the database eu"), "{}", listed.stdout);
}
