//! The primary is lost, and its standby takes over: nothing that was acknowledged was on the
//! primary alone.

use std::time::{Duration, Instant};

use super::{
    Until,
    load::{Load, Pace},
    verdict::verify,
};
use crate::support::{cluster::Cluster, forwarder::Forwarder, served::Served};

/// A standby that must have whatever is committed from now on.
async fn followed(primary: &Cluster) -> Cluster {
    let standby = primary.standby("second");
    // Not before: the standby must not wait for itself once it is the primary.
    let wait_for = "ALTER SYSTEM SET synchronous_standby_names = 'second'";
    primary.execute(&[wait_for, "SELECT pg_reload_conf()"]).await;
    let follows = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'";
    let begun = Instant::now();
    while primary.value::<i64>(follows).await == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", standby.told());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    standby
}

async fn primaries_are_lost(scenario: &str, until: Until) {
    let mut primary = Cluster::start(&[]);
    let mut standby = followed(&primary).await;
    let forwarder = Forwarder::start(&primary.socket_file()).await;
    let server = Served::start(&forwarder.url(), &[]);
    let load = Load::start(&[&server.base], Pace::default());
    let (mut rounds, mut without, mut slowest) = (0, 0.0_f64, (0.0_f64, 0.0_f64));
    loop {
        load.flows().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let lost = Instant::now();
        primary.kill();
        // As long as nobody has noticed.
        tokio::time::sleep(Duration::from_millis(300)).await;
        standby.promote();
        forwarder.lead_to(&standby.socket_file());
        let promoted = Instant::now();
        without = without.max((promoted - lost).as_secs_f64());
        let (first, all) = load.recovers_from(promoted, Duration::from_secs(10)).await;
        slowest = (slowest.0.max(first), slowest.1.max(all));
        rounds += 1;
        primary = standby;
        if until.is_over() {
            break;
        }
        standby = followed(&primary).await;
    }
    let figures = verify(&primary, &load.stop().await).await;
    assert!(figures.refused() > 0, "nobody has noticed: the test shows nothing");
    let (first, all) = slowest;
    figures.print(
        scenario,
        format_args!(
            "{rounds} rounds, promoted after {without:.2} s, then first served after {first:.2} s, all after {all:.2} s"
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_takes_over_has_every_acknowledged_write() {
    primaries_are_lost("failover", Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn one_standby_after_another_takes_over_with_every_acknowledged_write() {
    primaries_are_lost("failover, long", Until::long()).await;
}

/// The machine is gone without a word: connections to it are silent for ever, and only new ones
/// lead to the new primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_a_primary_that_fell_silent_are_given_up_together() {
    let mut primary = Cluster::start(&[]);
    let standby = followed(&primary).await;
    let forwarder = Forwarder::start(&primary.socket_file()).await;
    let server = Served::start(&forwarder.url(), &[("REQUEST_TIMEOUT", "1")]);
    // As many as the pool has.
    let busy = Load::start(&[&server.base], Pace { writers: 4, readers: 2, ..Pace::default() });
    busy.flows().await;
    let before = busy.stop().await;
    forwarder.freeze();
    primary.kill();
    standby.promote();
    forwarder.lead_to(&standby.socket_file());
    // One at a time, so that each would meet another of the silent ones.
    let promoted = Instant::now();
    let load = Load::start_one(&server.base, "acme");
    let (first, _) = load.recovers_from(promoted, Duration::from_secs(9)).await;
    let after = load.stop().await;
    let refused = after.refused();
    after.join(&before);
    let figures = verify(&standby, &after).await;
    figures.print(
        "failover without a word, a client alone",
        format_args!("{refused} requests met silence for 1 s each, served after {first:.2} s"),
    );
}
