//! Connections to PostgreSQL end in the middle of anything: shot from the other side, cut on the
//! way, cut around COMMIT.

use std::time::{Duration, Instant};

use sqlx::{PgConnection, postgres::PgConnectOptions};
use tokio::sync::oneshot;

use super::{
    Until,
    load::{Load, Pace},
    verdict::{Figures, verify},
};
use crate::support::{
    cluster::Cluster,
    forwarder::{Forwarder, Network},
    served::Served,
};

/// How long until everybody is served again.
const RECOVERY: Duration = Duration::from_secs(10);

/// How long connections are cut in a short run.
const SPELL: Duration = Duration::from_secs(2);

/// What came of it, COMMITs that were lost (before they arrived, or their answers), and seconds to
/// the first success and to all.
struct Outcome {
    figures: Figures,
    lost_commits: (u32, u32),
    again: (f64, f64),
}

async fn under(network: Network, until: Until) -> Outcome {
    let cluster = Cluster::start(&[]);
    let forwarder = Forwarder::start(&cluster.socket_file()).await;
    let server = Served::start(&forwarder.url(), &[]);
    let load = Load::start(&[&server.base], Pace::default());
    load.flows().await;
    forwarder.set(network);
    until.passes(SPELL).await;
    let begun = Instant::now();
    while matches!(network, Network::LosingCommits(_))
        && forwarder.lost_commits().1 < 5
        && begun.elapsed() < RECOVERY
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    forwarder.set(Network::Whole);
    let again = load.recovers_from(Instant::now(), RECOVERY).await;
    let figures = verify(&cluster, &load.stop().await).await;
    Outcome { figures, lost_commits: forwarder.lost_commits(), again }
}

async fn commits_are_lost(scenario: &str, until: Until) {
    let Outcome { figures, lost_commits, again } = under(Network::LosingCommits(3), until).await;
    let (unsent, unanswered) = lost_commits;
    // The server commits for itself as well, of which no client hears.
    let lost = usize::try_from(unsent + unanswered).unwrap();
    assert!(
        figures.unknown() <= lost,
        "{} of {lost}: not known without a reason",
        figures.unknown()
    );
    let written = figures.unknown_written();
    assert!(0 < written && written < figures.unknown(), "{written} of {}", figures.unknown());
    let told = format_args!("{unsent} COMMITs lost and {unanswered} answers to them").to_string();
    figures.print(scenario, format_args!("{told}, {}", since(again)));
}

async fn answers_are_torn(scenario: &str, until: Until) {
    let Outcome { figures, again, .. } = under(Network::Ragged(20), until).await;
    assert!(figures.refused() > 0, "nobody has noticed: the test shows nothing");
    figures.print(scenario, since(again));
}

async fn backends_are_shot(scenario: &str, until: Until) {
    let cluster = Cluster::start(&[]);
    let server = Served::start(&cluster.url(), &[]);
    let load = Load::start(&[&server.base], Pace::default());
    load.flows().await;
    let (stop, stopped) = oneshot::channel();
    let shooting = tokio::spawn(shoot(cluster.admin(), stopped));
    until.passes(SPELL).await;
    drop(stop);
    let shot = shooting.await.unwrap();
    let again = load.recovers_from(Instant::now(), RECOVERY).await;
    let figures = verify(&cluster, &load.stop().await).await;
    assert!(shot > 20 && figures.refused() > 0, "{shot}: the test shows nothing");
    figures.print(scenario, format_args!("{shot} backends shot, {}", since(again)));
}

/// Ends a backend of the app's every few milliseconds, until nobody wants that any more; says how
/// many.
async fn shoot(admin: PgConnectOptions, mut stopped: oneshot::Receiver<()>) -> i64 {
    use sqlx::Connection;
    let mut admin = PgConnection::connect_with(&admin).await.unwrap();
    let mut shot = 0;
    while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        let hit: i64 = sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM
                 (SELECT pid FROM pg_stat_activity WHERE usename = 'tenantry_app' ORDER BY random() LIMIT 1) one",
        )
        .fetch_one(&mut admin)
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
async fn a_commit_whose_answer_is_lost_is_told_as_unknown() {
    commits_are_lost("COMMITs lost", Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_torn_apart_lose_no_acknowledged_write() {
    answers_are_torn("answers torn", Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_that_are_shot_lose_no_acknowledged_write() {
    backends_are_shot("backends shot", Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn commits_whose_answers_are_lost_for_long_are_told_as_unknown() {
    commits_are_lost("COMMITs lost, long", Until::long()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn answers_torn_apart_for_long_lose_no_acknowledged_write() {
    answers_are_torn("answers torn, long", Until::long()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn backends_that_are_shot_for_long_lose_no_acknowledged_write() {
    backends_are_shot("backends shot, long", Until::long()).await;
}
