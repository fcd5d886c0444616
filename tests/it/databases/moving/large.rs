//! What a large organization costs on its way to a database and back.

use std::time::Instant;

use super::{command, done, lives, start, verified};
use crate::tenant::{log_entries, writers::Writers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "moves a million rows there and back"]
async fn a_million_rows_move_to_a_database_and_writers_wait_less_than_a_second() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    log_entries(database, 1_000_000).await;
    let writers = Writers::start(&app, 4);
    for to in ["database:eu", "shared"] {
        let begun = Instant::now();
        let arguments = ["tenant", "move", "acme", "--to", to, "--drop-source"];
        let output = command(database, &eu, &arguments).await;
        eprintln!("{:?}\n{}\n{}", begun.elapsed(), done(&output), output.stderr);
    }
    let book = writers.stop().await;
    eprintln!("{} writes, the slowest took {:?}", book.writes, book.slowest);
    book.check(&lives(database, &eu).await).await;
    verified(database, &eu).await;
    assert!(book.slowest < std::time::Duration::from_secs(1), "{:?}", book.slowest);
}
