//! A large organization on its way, and for how long its people notice.

use super::{command, done, log_entries, start, verified, writers::Writers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "moves a million rows there and back"]
async fn a_million_rows_move_and_writers_wait_less_than_a_second() {
    let Some(app) = start().await else { return };
    log_entries(&app.database, 1_000_000).await;
    let writers = Writers::start(&app, 4);
    for to in ["schema", "shared"] {
        let begun = std::time::Instant::now();
        let output = command(&app.database, &["tenant", "move", "acme", "--to", to]).await;
        let stdout = done(&output);
        let told = stdout.split("writers paused for at most ").nth(1).unwrap();
        let held: u64 = told.split(' ').next().unwrap().parse().unwrap();
        println!("to {to}, in {:?}:\n{}{stdout}", begun.elapsed(), output.stderr);
        assert!(held < 1_000, "{held} ms");
    }
    let book = writers.stop().await;
    println!("{} writes meanwhile, the slowest took {:?}", book.writes, book.slowest);
    book.check(&app.database).await;
    verified(&app.database).await;
}
