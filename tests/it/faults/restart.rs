//! PostgreSQL ends, cleanly or killed.

use std::time::{Duration, Instant};

use super::{
    Until,
    load::{Load, LoadOptions},
    verification::verify,
};
use crate::support::{cluster::Cluster, server_process::ServerProcess};

/// How PostgreSQL ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Stopped,
    Killed,
}

async fn restart_under_load(scenario: &str, end: End, until: Until) {
    let mut cluster = Cluster::start(&[]);
    let servers =
        [ServerProcess::start(&cluster.url(), &[]), ServerProcess::start(&cluster.url(), &[])];
    let load = Load::start(&[&servers[0].base, &servers[1].base], LoadOptions::default());
    let (mut rounds, mut slowest) = (0, (0.0_f64, 0.0_f64));
    loop {
        load.wait_until_served().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        match end {
            End::Stopped => cluster.stop(),
            End::Killed => cluster.kill(),
        }
        load.wait_until_rejected(Instant::now()).await;
        cluster.resume();
        let (first, all) = load.recovers_from(Instant::now()).await;
        slowest = (slowest.0.max(first), slowest.1.max(all));
        rounds += 1;
        if until.has_ended() {
            break;
        }
    }
    let write_log = load.stop().await;
    let figures = verify(&cluster, &write_log).await;
    assert!(figures.refused() > 0, "no client noticed, so the test shows nothing");
    let (first, all) = slowest;
    let (requests, unknown) = (figures.acknowledged() + figures.refused(), figures.unknown());
    // Only writes in the middle of their commit have an unknown outcome.
    assert!(unknown < requests, "{unknown} of {requests}");
    figures.print(
        scenario,
        format_args!("{rounds} rounds, first served after {first:.2} s, all after {all:.2} s"),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_postgresql_loses_no_acknowledged_write() {
    restart_under_load("PostgreSQL restarted", End::Stopped, Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postgresql_loses_no_acknowledged_write() {
    restart_under_load("PostgreSQL killed", End::Killed, Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn many_restarts_of_postgresql_lose_no_acknowledged_write() {
    restart_under_load("PostgreSQL restarted, long", End::Stopped, Until::long()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn a_repeatedly_killed_postgresql_loses_no_acknowledged_write() {
    restart_under_load("PostgreSQL killed, long", End::Killed, Until::long()).await;
}
