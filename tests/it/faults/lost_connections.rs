//! Connections to PostgreSQL that end at any point: backends terminated, responses cut in the
//! middle, connections cut around COMMIT.

use std::time::{Duration, Instant};

use pg::{Client, ConnectOptions};
use tokio::sync::oneshot;

use super::{
    Until,
    load::{Load, LoadOptions},
    verification::{Figures, verify},
};
use crate::support::{
    HANG,
    cluster::Cluster,
    forwarder::{Forwarder, Network},
    server_process::ServerProcess,
};

/// How long connections are cut in a short run.
const DURATION: Duration = Duration::from_secs(2);

/// The result of a run: lost COMMITs (before they arrived, or their responses), and seconds to the
/// first success and to the success of every client.
struct Outcome {
    figures: Figures,
    lost_commits: (u32, u32),
    again: (f64, f64),
}

async fn under(network: Network, until: Until) -> Outcome {
    let cluster = Cluster::start(&[]);
    let forwarder = Forwarder::start(&cluster.socket_file()).await;
    let server = ServerProcess::start(&forwarder.url(), &[]);
    let load = Load::start(&[&server.base], LoadOptions::default());
    load.wait_until_served().await;
    forwarder.set(network);
    until.wait(DURATION).await;
    let started = Instant::now();
    while matches!(network, Network::LosingCommits(_))
        && forwarder.lost_commits().1 < 5
        && started.elapsed() < HANG
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    forwarder.set(Network::Whole);
    let again = load.recovers_from(Instant::now()).await;
    let figures = verify(&cluster, &load.stop().await).await;
    Outcome { figures, lost_commits: forwarder.lost_commits(), again }
}

async fn lose_commits(scenario: &str, until: Until) {
    let Outcome { figures, lost_commits, again } = under(Network::LosingCommits(3), until).await;
    let (unsent, unanswered) = lost_commits;
    // The server also commits its own work, which no client sees.
    let lost = usize::try_from(unsent + unanswered).unwrap();
    assert!(
        figures.unknown() <= lost,
        "{} of {lost}: an unknown outcome without a lost response",
        figures.unknown()
    );
    let written = figures.unknown_written();
    assert!(0 < written && written < figures.unknown(), "{written} of {}", figures.unknown());
    let lost_commits =
        format_args!("{unsent} COMMITs lost and {unanswered} answers to them").to_string();
    figures.print(scenario, format_args!("{lost_commits}, {}", since(again)));
}

async fn cut_responses(scenario: &str, until: Until) {
    let Outcome { figures, again, .. } = under(Network::Ragged(20), until).await;
    assert!(figures.refused() > 0, "no client noticed, so the test shows nothing");
    figures.print(scenario, since(again));
}

async fn terminate_backends_under_load(scenario: &str, until: Until) {
    let cluster = Cluster::start(&[]);
    let server = ServerProcess::start(&cluster.url(), &[]);
    let load = Load::start(&[&server.base], LoadOptions::default());
    load.wait_until_served().await;
    let (stop, stopped) = oneshot::channel();
    let shooting = tokio::spawn(terminate_backends(cluster.admin(), stopped));
    until.wait(DURATION).await;
    drop(stop);
    let shot = shooting.await.unwrap();
    let again = load.recovers_from(Instant::now()).await;
    let figures = verify(&cluster, &load.stop().await).await;
    assert!(figures.refused() > 0, "no client noticed, so the test shows nothing");
    figures.print(scenario, format_args!("{shot} backends shot, {}", since(again)));
}

/// Terminates a backend of the app every few milliseconds until stopped, but at least some, and
/// returns how many.
async fn terminate_backends(admin: ConnectOptions, mut stopped: oneshot::Receiver<()>) -> i64 {
    let admin = Client::connect(&admin).await.unwrap();
    let mut shot = 0;
    while shot < 20 || stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        let hit: i64 = admin
            .query_one(
                "SELECT count(pg_terminate_backend(pid)) FROM
                 (SELECT pid FROM pg_stat_activity WHERE usename = 'tenantry_app' ORDER BY random() LIMIT 1) one",
                &[],
            )
            .await
        .unwrap();
        shot += hit;
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    shot
}

fn since((first, all): (f64, f64)) -> String {
    format!("first served after {first:.2} s, all after {all:.2} s")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_response_is_lost_is_reported_as_unknown() {
    lose_commits("COMMITs lost", Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_cut_in_the_middle_lose_no_acknowledged_write() {
    cut_responses("responses cut", Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminated_backends_lose_no_acknowledged_write() {
    terminate_backends_under_load("backends terminated", Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn commits_whose_responses_are_lost_are_reported_as_unknown_in_a_long_run() {
    lose_commits("COMMITs lost, long", Until::long()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn responses_cut_in_the_middle_lose_no_acknowledged_write_in_a_long_run() {
    cut_responses("responses cut, long", Until::long()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn terminated_backends_lose_no_acknowledged_write_in_a_long_run() {
    terminate_backends_under_load("backends terminated, long", Until::long()).await;
}
