//! Moves that are killed at any time: there is at most one home, and whoever comes after finishes.

use std::time::{Duration, Instant};

use super::{go, kill, lives, placements, spawn, start, verified};
use crate::{
    support::{App, dedicated::DedicatedDatabase},
    tenant::{log_entries, writers::Writers},
};

async fn kill_many(app: &App, eu: &DedicatedDatabase, kills: u32, entries: u32) {
    let database = &app.database;
    log_entries(database, entries).await;
    let writers = Writers::start(app, 3);
    let begun = Instant::now();
    go(database, eu, "database:eu").await;
    let whole = begun.elapsed();
    for number in 0..kills {
        let before = lives(database, eu).await;
        let to = if before.name == database.name { "database:eu" } else { "shared" };
        let stays = if to == "shared" { "database:eu" } else { "shared" };
        let pause = whole.mul_f64(fastrand::f64() * 1.1);
        let child = spawn(database, eu, to);
        tokio::time::sleep(pause).await;
        kill(child);
        let state = placements(database, eu).await;
        eprintln!("to {to}, killed after {pause:?} of {whole:?}: {state:?}");
        // Somebody is answered, from where it lives; if it had no home, it has one since.
        app.person("acme-owner").data("{ organization { projects { nodes { id } } } }").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let _one = lives(database, eu).await;
        go(database, eu, if number % 2 == 0 { to } else { stays }).await;
        verified(database, eu).await;
    }
    let book = writers.stop().await;
    book.check(&lives(database, eu).await).await;
    verified(database, eu).await;
    eprintln!("{} writes, the slowest took {:?}", book.writes, book.slowest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_move_between_databases_goes_on_or_is_called_off() {
    let Some((app, eu)) = start().await else { return };
    kill_many(&app, &eu, 4, 30_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn twenty_moves_between_databases_are_killed() {
    let Some((app, eu)) = start().await else { return };
    kill_many(&app, &eu, 20, 100_000).await;
}
