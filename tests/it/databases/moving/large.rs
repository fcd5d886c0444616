//! The cost of moving a large organization to a dedicated database and back.

use std::time::Instant;

use super::{assert_verified, command, serving_database, start, succeeded};
use crate::tenant::{log_entries, writers::Writers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "moves a million rows there and back"]
async fn a_million_rows_move_to_a_database_and_writers_wait_less_than_a_second() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    log_entries(database, 1_000_000).await;
    let writers = Writers::start(&app, 4);
    for to in ["database:eu", "shared"] {
        let started = Instant::now();
        let arguments = ["tenant", "move", "acme", "--to", to, "--drop-source"];
        let output = command(database, &eu, &arguments).await;
        eprintln!("{:?}\n{}\n{}", started.elapsed(), succeeded(&output), output.stderr);
    }
    let write_log = writers.stop().await;
    eprintln!("{} writes, the slowest took {:?}", write_log.writes, write_log.slowest);
    write_log.check(&serving_database(database, &eu).await).await;
    assert_verified(database, &eu).await;
    assert!(write_log.slowest < std::time::Duration::from_secs(1), "{:?}", write_log.slowest);
}
