//! Moves that are killed at a random time: an organization has at most one placement, and the next
//! command or request completes the move.

use std::time::{Duration, Instant};

use super::{assert_verified, kill, placements, run_move, serving_database, spawn, start};
use crate::{
    support::{App, dedicated::DedicatedDatabase},
    tenant::{log_entries, writers::Writers},
};

async fn kill_many(app: &App, eu: &DedicatedDatabase, kills: u32, entries: u32) {
    let database = &app.database;
    log_entries(database, entries).await;
    let writers = Writers::start(app, 3);
    let started = Instant::now();
    run_move(database, eu, "database:eu").await;
    let complete = started.elapsed();
    for number in 0..kills {
        let before = serving_database(database, eu).await;
        let to = if before.name == database.name { "database:eu" } else { "shared" };
        let stays = if to == "shared" { "database:eu" } else { "shared" };
        let pause = complete.mul_f64(fastrand::f64() * 1.1);
        let child = spawn(database, eu, to);
        tokio::time::sleep(pause).await;
        kill(child);
        let state = placements(database, eu).await;
        eprintln!("to {to}, killed after {pause:?} of {complete:?}: {state:?}");
        // A request is answered from where acme lives. If acme had no placement, the request has
        // completed the move.
        app.user("acme-owner").data("{ organization { projects { nodes { id } } } }").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let _one = serving_database(database, eu).await;
        run_move(database, eu, if number % 2 == 0 { to } else { stays }).await;
        assert_verified(database, eu).await;
    }
    let write_log = writers.stop().await;
    write_log.check(&serving_database(database, eu).await).await;
    assert_verified(database, eu).await;
    eprintln!("{} writes, the slowest took {:?}", write_log.writes, write_log.slowest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_move_between_databases_is_continued_or_cancelled() {
    let Some((app, eu)) = start().await else { return };
    kill_many(&app, &eu, 4, 30_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn twenty_killed_moves_between_databases_are_continued_or_cancelled() {
    let Some((app, eu)) = start().await else { return };
    kill_many(&app, &eu, 20, 100_000).await;
}
