//! Moves that are stopped at the points that matter: between the commits of the switch, on their
//! way, and with a database that is gone.

use std::time::Duration;

use super::{
    command, command_line, done, go, holding, kill, lives, placements, spawn, start, verified,
    without_usage,
};
use crate::{
    support::{App, dedicated::DedicatedDatabase, placement::ACME},
    tenant::{log_entries, refused, until, writers::Writers},
};

const ROW: &str = "SELECT FROM app.placements FOR UPDATE";
const LOG: &str = "LOCK TABLE audit.audit_logs IN SHARE MODE";
pub const BRINGS: &str =
    "SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL AND old_home IS NULL";

/// Killed after the other side has everything, and before the old home has let it go.
async fn kill_before_letting_go(app: &App, eu: &DedicatedDatabase, to: &str) {
    let database = &app.database;
    let (old, new) =
        if to == "shared" { (&eu.database, database) } else { (database, &eu.database) };
    new.execute("UPDATE app.placements SET arrival = NULL").await;
    let mover = spawn(database, eu, to);
    until(database, BRINGS).await;
    if to == "shared" {
        until(&eu.database, "SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL")
            .await;
    }
    let lock = holding(old, ROW).await;
    until(new, "SELECT count(*) FROM app.placements WHERE arrival ? 'rows'").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    kill(mover);
    drop(lock);
}

/// Killed after the old home has let it go, and before the new one has taken it in.
async fn kill_before_taking_in(app: &App, eu: &DedicatedDatabase, to: &str) {
    let database = &app.database;
    let (old, new) =
        if to == "shared" { (&eu.database, database) } else { (database, &eu.database) };
    new.execute("UPDATE app.placements SET arrival = NULL").await;
    let mover = spawn(database, eu, to);
    until(database, BRINGS).await;
    if to == "shared" {
        until(&eu.database, "SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL")
            .await;
    }
    let row = holding(old, ROW).await;
    until(new, "SELECT count(*) FROM app.placements WHERE arrival ? 'rows'").await;
    let log = holding(new, LOG).await;
    drop(row);
    let gone = if to == "shared" { "elsewhere" } else { "database:eu" };
    until(old, &format!("SELECT count(*) FROM app.placements WHERE home = '{gone}'")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    kill(mover);
    // Wait for what its connection still waits to do, and which fails with it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(log);
    tokio::time::sleep(Duration::from_millis(500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_old_home_lets_go_it_is_the_home() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    log_entries(database, 20_000).await;
    for (to, stays) in [("database:eu", "shared"), ("shared", "database:eu")] {
        for goes_on in [false, true] {
            kill_before_letting_go(&app, &eu, to).await;
            let home = lives(database, &eu).await;
            assert_eq!(home.name == database.name, stays == "shared");
            app.person("acme-owner")
                .data("mutation { createProject(input: { name: \"behind\" }) { project { id } } }")
                .await;
            assert_eq!(lives(database, &eu).await.name, home.name);
            let before = without_usage(&home).await;
            let output = go(database, &eu, if goes_on { to } else { stays }).await;
            assert_eq!(output.stdout.contains("was cancelled"), !goes_on, "{}", output.stdout);
            assert_eq!(without_usage(&lives(database, &eu).await).await, before);
            verified(database, &eu).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_old_home_has_let_go_anybody_takes_in() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    log_entries(database, 20_000).await;
    let before = without_usage(database).await;
    for by in ["a server", "the same command", "calling off"] {
        for (to, from, done_by) in [
            ("database:eu", "shared", ("database:eu N", "elsewhere N")),
            ("shared", "database:eu", ("database:eu M shared", "elsewhere N")),
        ] {
            let generation: i64 = database
                .exactly("SELECT coalesce((SELECT generation FROM app.placements), 0)")
                .await;
            kill_before_taking_in(&app, &eu, to).await;
            let name = |text: &str| {
                text.replace('N', &(generation + 1).to_string())
                    .replace('M', &generation.to_string())
            };
            let both = placements(database, &eu).await;
            assert_eq!(both, (name(done_by.0), name(done_by.1)), "{by}, to {to}");
            match by {
                "a server" => {
                    app.person("acme-owner").data("{ organization { slug } }").await;
                }
                "the same command" => {
                    let output = go(database, &eu, to).await;
                    let lives = if to == "shared" {
                        "acme lives in the shared tables"
                    } else {
                        "acme lives in the database eu"
                    };
                    assert!(output.stdout.starts_with(lives), "{}", output.stdout);
                }
                _ if to == "shared" => {
                    let output =
                        command(database, &eu, &["tenant", "move", "acme", "--to", from]).await;
                    refused(
                        &output,
                        "acme already lives in the shared tables: its move was too far along to cancel",
                    );
                }
                // The way back is a new move.
                _ => {
                    go(database, &eu, from).await;
                    go(database, &eu, to).await;
                }
            }
            assert_eq!(lives(database, &eu).await.name == database.name, to == "shared", "{by}");
            assert_eq!(without_usage(&lives(database, &eu).await).await, before);
            let told: i64 = lives(database, &eu)
                .await
                .exactly(&format!("SELECT count(*) FROM audit.audit_logs WHERE organization_id = '{ACME}' AND metadata->>'to' = '{to}' AND action = 'organization.moved'"))
                .await;
            assert!(told >= 1, "{by}, to {to}");
            verified(database, &eu).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_to_a_database_that_is_called_off_leaves_nothing() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    log_entries(database, 60_000).await;
    for (to, stays) in [("database:eu", "shared"), ("shared", "database:eu")] {
        let writers = Writers::start(&app, 2);
        let child = spawn(database, &eu, to);
        until(database, BRINGS).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        kill(child);
        let home = lives(database, &eu).await;
        assert_eq!(home.name == database.name, stays == "shared");
        until(&home, "SELECT count(*) FROM app.pending_changes").await;
        let listed = command(database, &eu, &["tenant", "list"]).await;
        assert!(done(&listed).contains("moving to the"), "{}", listed.stdout);
        let output = go(database, &eu, stays).await;
        assert!(output.stdout.contains("was cancelled"), "{}", output.stdout);
        let book = writers.stop().await;
        book.check(&home).await;
        verified(database, &eu).await;
        let other = if stays == "shared" { &eu.database } else { database };
        for table in ["audit.audit_logs", "app.projects", "billing.usage"] {
            let left: i64 = other
                .exactly(&format!("SELECT count(*) FROM {table} WHERE organization_id = '{ACME}'"))
                .await;
            assert_eq!(left, 0, "{table}");
        }
        // What the next writers do is told apart from what these did.
        home.execute(&format!("DELETE FROM app.projects WHERE organization_id = '{ACME}'; DELETE FROM auth.invitations WHERE organization_id = '{ACME}'; DELETE FROM audit.audit_logs WHERE ip_address IS NOT NULL")).await;
        done(
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
async fn a_database_that_is_gone_is_told_and_holds_nobody_back() {
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
    let to = |home| ["tenant", "move", "acme", "--to", home];
    refused(&gone(&to("database:eu")).await, "the database eu: ");
    assert_eq!(placements(database, &eu).await, ("-".into(), "-".into()));
    // On its way there it is lost: it stays, and what lies there goes later.
    let child = spawn(database, &eu, "database:eu");
    until(database, BRINGS).await;
    kill(child);
    let off = gone(&to("shared")).await;
    refused(
        &off,
        "the stale copy in the database eu remains until `tenantry tenant prune` can reach that database",
    );
    assert_eq!(placements(database, &eu).await.0, "shared 0");
    refused(&gone(&["tenant", "prune"]).await, "1 stale copies could not be deleted");
    assert!(done(&command(database, &eu, &["tenant", "prune"]).await).contains("deleted 1"));
    assert_eq!(placements(database, &eu).await.1, "-");
    go(database, &eu, "database:eu").await;
    for arguments in [&["tenant", "show", "acme"][..], &["tenant", "verify", "acme"], &to("shared")]
    {
        refused(&gone(arguments).await, "the database eu: ");
    }
    assert!(done(&gone(&["tenant", "list"]).await).contains("database:eu"));
    verified(database, &eu).await;
}
