//! The move of a large organization, and how long its writers wait.

use super::{assert_verified, command, log_entries, start, succeeded, writers::Writers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "moves a million rows there and back"]
async fn a_million_rows_move_and_writers_wait_less_than_a_second() {
    let Some(app) = start().await else { return };
    log_entries(&app.database, 1_000_000).await;
    let writers = Writers::start(&app, 4);
    for to in ["schema", "shared"] {
        let started = std::time::Instant::now();
        let output = command(&app.database, &["tenant", "move", "acme", "--to", to]).await;
        let stdout = succeeded(&output);
        let report = stdout.split("writers paused for at most ").nth(1).unwrap();
        let held: u64 = report.split(' ').next().unwrap().parse().unwrap();
        println!("to {to}, in {:?}:\n{}{stdout}", started.elapsed(), output.stderr);
        assert!(held < 1_000, "{held} ms");
    }
    let write_log = writers.stop().await;
    println!("{} writes meanwhile, the slowest took {:?}", write_log.writes, write_log.slowest);
    write_log.check(&app.database).await;
    assert_verified(&app.database).await;
}
