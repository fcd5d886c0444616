//! PostgreSQL ends in order, and without.

use std::time::{Duration, Instant};

use super::{
    Until,
    load::{Load, Pace},
    verdict::verify,
};
use crate::support::{cluster::Cluster, served::Served};

/// How long until everybody is served again.
const RECOVERY: Duration = Duration::from_secs(15);

/// How PostgreSQL ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Stopped,
    Killed,
}

async fn ends_and_returns(scenario: &str, end: End, until: Until) {
    let mut cluster = Cluster::start(&[]);
    let servers = [Served::start(&cluster.url(), &[]), Served::start(&cluster.url(), &[])];
    let load = Load::start(&[&servers[0].base, &servers[1].base], Pace::default());
    let (mut rounds, mut slowest) = (0, (0.0_f64, 0.0_f64));
    loop {
        load.flows().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        match end {
            End::Stopped => cluster.stop(),
            End::Killed => cluster.kill(),
        }
        // Long enough for clients to hear of it.
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.resume();
        let (first, all) = load.recovers_from(Instant::now(), RECOVERY).await;
        slowest = (slowest.0.max(first), slowest.1.max(all));
        rounds += 1;
        if until.is_over() {
            break;
        }
    }
    let book = load.stop().await;
    let figures = verify(&cluster, &book).await;
    assert!(figures.refused() > 0, "nobody has noticed: the test shows nothing");
    let (first, all) = slowest;
    let (requests, unknown) = (figures.acknowledged() + figures.refused(), figures.unknown());
    // Nobody knows only about those that were being committed.
    assert!(unknown < requests, "{unknown} of {requests}");
    figures.print(
        scenario,
        format_args!("{rounds} rounds, first served after {first:.2} s, all after {all:.2} s"),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_postgresql_loses_no_acknowledged_write() {
    ends_and_returns("PostgreSQL restarted", End::Stopped, Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postgresql_loses_no_acknowledged_write() {
    ends_and_returns("PostgreSQL killed", End::Killed, Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn restarts_of_postgresql_lose_no_acknowledged_write() {
    ends_and_returns("PostgreSQL restarted, long", End::Stopped, Until::long()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn a_postgresql_that_is_killed_again_and_again_loses_no_acknowledged_write() {
    ends_and_returns("PostgreSQL killed, long", End::Killed, Until::long()).await;
}
