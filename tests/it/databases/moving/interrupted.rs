//! Moves that stop at critical points: between the commits of the switch, in transit, and with an
//! unavailable database.

use super::{
    assert_verified, command, command_line, hold_locks, kill, placements, run_move,
    serving_database, spawn, start, succeeded, without_usage,
};
use crate::{
    support::{App, dedicated::DedicatedDatabase, placement::ACME},
    tenant::{failed, log_entries, wait_until, writers::Writers},
};

const ROW: &str = "SELECT FROM app.placements FOR UPDATE";
pub const LOG: &str = "LOCK TABLE audit.audit_logs IN SHARE MODE";
/// Whether the move waits for a lock, and whether it does not. It logs in as the superuser, unlike
/// servers.
pub const WAITS_FOR_LOCK: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = 'postgres' AND wait_event_type = 'Lock'";
const WAITS_NO_LONGER: &str = "SELECT (count(*) = 0)::int::bigint FROM pg_stat_activity
    WHERE datname = current_database() AND usename = 'postgres' AND wait_event_type = 'Lock'";
pub const COPYING: &str =
    "SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL AND old_placement IS NULL";

/// Kills a move after the destination has everything and before the source releases the
/// organization.
async fn kill_before_release(app: &App, eu: &DedicatedDatabase, to: &str) {
    let database = &app.database;
    let (old, new) =
        if to == "shared" { (&eu.database, database) } else { (database, &eu.database) };
    new.execute("UPDATE app.placements SET move_metadata = NULL").await;
    let mover = spawn(database, eu, to);
    wait_until(database, COPYING).await;
    if to == "shared" {
        wait_until(&eu.database, "SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL")
            .await;
    }
    let lock = hold_locks(old, ROW).await;
    wait_until(new, "SELECT count(*) FROM app.placements WHERE move_metadata ? 'rows'").await;
    wait_until(old, WAITS_FOR_LOCK).await;
    kill(mover);
    drop(lock);
}

/// Kills a move after the source has released the organization and before the destination accepts
/// it.
async fn kill_before_acceptance(app: &App, eu: &DedicatedDatabase, to: &str) {
    let database = &app.database;
    let (old, new) =
        if to == "shared" { (&eu.database, database) } else { (database, &eu.database) };
    new.execute("UPDATE app.placements SET move_metadata = NULL").await;
    let mover = spawn(database, eu, to);
    wait_until(database, COPYING).await;
    if to == "shared" {
        wait_until(&eu.database, "SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL")
            .await;
    }
    let row = hold_locks(old, ROW).await;
    wait_until(new, "SELECT count(*) FROM app.placements WHERE move_metadata ? 'rows'").await;
    let log = hold_locks(new, LOG).await;
    drop(row);
    let gone = if to == "shared" { "remote" } else { "database:eu" };
    wait_until(old, &format!("SELECT count(*) FROM app.placements WHERE placement = '{gone}'"))
        .await;
    wait_until(new, WAITS_FOR_LOCK).await;
    kill(mover);
    // Statements of the killed process that still wait for a lock fail by their timeout.
    for database in [new, old] {
        wait_until(database, WAITS_NO_LONGER).await;
    }
    drop(log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_the_source_releases_an_organization_the_source_serves_it() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    log_entries(database, 20_000).await;
    for (to, stays) in [("database:eu", "shared"), ("shared", "database:eu")] {
        for goes_on in [false, true] {
            kill_before_release(&app, &eu, to).await;
            let placement = serving_database(database, &eu).await;
            assert_eq!(placement.name == database.name, stays == "shared");
            app.user("acme-owner")
                .data("mutation { createProject(input: { name: \"behind\" }) { project { id } } }")
                .await;
            assert_eq!(serving_database(database, &eu).await.name, placement.name);
            let before = without_usage(&placement).await;
            let output = run_move(database, &eu, if goes_on { to } else { stays }).await;
            assert_eq!(output.stdout.contains("was cancelled"), !goes_on, "{}", output.stdout);
            assert_eq!(without_usage(&serving_database(database, &eu).await).await, before);
            assert_verified(database, &eu).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_organization_is_accepted_by_any_command_or_server() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    log_entries(database, 20_000).await;
    let before = without_usage(database).await;
    for by in ["a server", "the same command", "calling off"] {
        for (to, from, done_by) in [
            ("database:eu", "shared", ("database:eu N", "remote N")),
            ("shared", "database:eu", ("database:eu M shared", "remote N")),
        ] {
            let generation: i64 = database
                .exactly("SELECT coalesce((SELECT generation FROM app.placements), 0)")
                .await;
            kill_before_acceptance(&app, &eu, to).await;
            let name = |text: &str| {
                text.replace('N', &(generation + 1).to_string())
                    .replace('M', &generation.to_string())
            };
            let both = placements(database, &eu).await;
            assert_eq!(both, (name(done_by.0), name(done_by.1)), "{by}, to {to}");
            match by {
                "a server" => {
                    app.user("acme-owner").data("{ organization { slug } }").await;
                }
                "the same command" => {
                    let output = run_move(database, &eu, to).await;
                    let serving_database = if to == "shared" {
                        "acme lives in the shared tables"
                    } else {
                        "acme lives in the database eu"
                    };
                    assert!(output.stdout.starts_with(serving_database), "{}", output.stdout);
                }
                _ if to == "shared" => {
                    let output =
                        command(database, &eu, &["tenant", "move", "acme", "--to", from]).await;
                    failed(
                        &output,
                        "acme already lives in the shared tables: its move was too far along to cancel",
                    );
                }
                // The way back is a new move.
                _ => {
                    run_move(database, &eu, from).await;
                    run_move(database, &eu, to).await;
                }
            }
            assert_eq!(
                serving_database(database, &eu).await.name == database.name,
                to == "shared",
                "{by}"
            );
            assert_eq!(without_usage(&serving_database(database, &eu).await).await, before);
            let entries: i64 = serving_database(database, &eu)
                .await
                .exactly(&format!("SELECT count(*) FROM audit.audit_logs WHERE organization_id = '{ACME}' AND metadata->>'to' = '{to}' AND action = 'organization.moved'"))
                .await;
            assert!(entries >= 1, "{by}, to {to}");
            assert_verified(database, &eu).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_move_to_a_database_leaves_nothing_behind() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    log_entries(database, 60_000).await;
    for (to, stays) in [("database:eu", "shared"), ("shared", "database:eu")] {
        let writers = Writers::start(&app, 2);
        let child = spawn(database, &eu, to);
        wait_until(database, COPYING).await;
        let source = if stays == "shared" { database } else { &eu.database };
        wait_until(source, "SELECT count(*) FROM app.pending_changes").await;
        kill(child);
        let placement = serving_database(database, &eu).await;
        assert_eq!(placement.name, source.name);
        let listed = command(database, &eu, &["tenant", "list"]).await;
        assert!(succeeded(&listed).contains("moving to the"), "{}", listed.stdout);
        let output = run_move(database, &eu, stays).await;
        assert!(output.stdout.contains("was cancelled"), "{}", output.stdout);
        let write_log = writers.stop().await;
        write_log.check(&placement).await;
        assert_verified(database, &eu).await;
        let other = if stays == "shared" { &eu.database } else { database };
        for table in ["audit.audit_logs", "app.projects", "billing.usage"] {
            let left: i64 = other
                .exactly(&format!("SELECT count(*) FROM {table} WHERE organization_id = '{ACME}'"))
                .await;
            assert_eq!(left, 0, "{table}");
        }
        // Delete the writers' rows, because the next writers use the same names.
        placement.execute(&format!("DELETE FROM app.projects WHERE organization_id = '{ACME}'; DELETE FROM auth.invitations WHERE organization_id = '{ACME}'; DELETE FROM audit.audit_logs WHERE ip_address IS NOT NULL")).await;
        succeeded(
            &command(
                database,
                &eu,
                &["tenant", "move", "acme", "--to", "database:eu", "--drop-source"],
            )
            .await,
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unavailable_database_is_reported_and_blocks_no_requests() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    log_entries(database, 20_000).await;
    let gone = async |arguments: &[&str]| {
        let mut command = command_line(database, &eu, arguments);
        command.env("MIGRATION_DATABASES", "eu=postgres://postgres@127.0.0.1:1/gone");
        tokio::task::spawn_blocking(move || crate::support::process::run(&mut command))
            .await
            .unwrap()
    };
    let to = |placement| ["tenant", "move", "acme", "--to", placement];
    failed(&gone(&to("database:eu")).await, "the database eu: ");
    assert_eq!(placements(database, &eu).await, ("-".into(), "-".into()));
    // The destination is lost in transit: the organization stays, and the copy is deleted later.
    let child = spawn(database, &eu, "database:eu");
    wait_until(database, COPYING).await;
    kill(child);
    let off = gone(&to("shared")).await;
    failed(
        &off,
        "the stale copy in the database eu remains until `tenantry tenant prune` can reach that database",
    );
    assert_eq!(placements(database, &eu).await.0, "shared 0");
    failed(&gone(&["tenant", "prune"]).await, "stale copies that could not be deleted: 1");
    assert!(succeeded(&command(database, &eu, &["tenant", "prune"]).await).contains("deleted: 1"));
    assert_eq!(placements(database, &eu).await.1, "-");
    run_move(database, &eu, "database:eu").await;
    for arguments in [&["tenant", "show", "acme"][..], &["tenant", "verify", "acme"], &to("shared")]
    {
        failed(&gone(arguments).await, "the database eu: ");
    }
    assert!(succeeded(&gone(&["tenant", "list"]).await).contains("database:eu"));
    assert_verified(database, &eu).await;
}
