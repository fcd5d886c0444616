//! The primary is lost and its standby takes over: every acknowledged write was on the standby.

use std::time::{Duration, Instant};

use super::{
    Until,
    load::{Load, LoadOptions},
    verification::verify,
};
use crate::support::{HANG, cluster::Cluster, forwarder::Forwarder, server_process::ServerProcess};

/// Starts a standby that has every write before its commit is acknowledged.
async fn start_standby(primary: &Cluster) -> Cluster {
    let standby = primary.standby("second");
    // Set this after the copy was made: as the primary, the standby must not wait for itself.
    let wait_for = "ALTER SYSTEM SET synchronous_standby_names = 'second'";
    primary.execute(&[wait_for, "SELECT pg_reload_conf()"]).await;
    let follows = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'";
    let started = Instant::now();
    while primary.value::<i64>(follows).await == 0 {
        assert!(started.elapsed() < HANG, "{}", standby.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    standby
}

async fn lose_primaries(scenario: &str, until: Until) {
    let mut primary = Cluster::start(&[]);
    let mut standby = start_standby(&primary).await;
    let forwarder = Forwarder::start(&primary.socket_file()).await;
    let server = ServerProcess::start(&forwarder.url(), &[]);
    let load = Load::start(&[&server.base], LoadOptions::default());
    let (mut rounds, mut without, mut slowest) = (0, 0.0_f64, (0.0_f64, 0.0_f64));
    loop {
        load.wait_until_served().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let lost = Instant::now();
        primary.kill();
        // The lost primary has gone unnoticed by some clients until now.
        tokio::time::sleep(Duration::from_millis(300)).await;
        standby.promote();
        forwarder.lead_to(&standby.socket_file());
        let promoted = Instant::now();
        without = without.max((promoted - lost).as_secs_f64());
        let (first, all) = load.recovers_from(promoted).await;
        slowest = (slowest.0.max(first), slowest.1.max(all));
        rounds += 1;
        primary = standby;
        if until.has_ended() {
            break;
        }
        standby = start_standby(&primary).await;
    }
    let figures = verify(&primary, &load.stop().await).await;
    assert!(figures.refused() > 0, "no client noticed, so the test shows nothing");
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
    lose_primaries("failover", Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn each_of_several_standbys_takes_over_with_every_acknowledged_write() {
    lose_primaries("failover, long", Until::long()).await;
}

/// The machine disappears without a reset: existing connections stay silent, and only new ones lead
/// to the new primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_to_a_lost_primary_are_abandoned_together() {
    let mut primary = Cluster::start(&[]);
    let standby = start_standby(&primary).await;
    let forwarder = Forwarder::start(&primary.socket_file()).await;
    let server = ServerProcess::start(&forwarder.url(), &[("REQUEST_TIMEOUT", "1")]);
    // As many clients as the pool has connections.
    let busy = Load::start(
        &[&server.base],
        LoadOptions { writers: 4, readers: 2, ..LoadOptions::default() },
    );
    busy.wait_until_served().await;
    let before = busy.stop().await;
    forwarder.freeze();
    primary.kill();
    standby.promote();
    forwarder.lead_to(&standby.socket_file());
    // A single client sends one request at a time, so each request would meet another silent
    // connection.
    let promoted = Instant::now();
    let load = Load::start_one(&server.base, "acme");
    let (first, _) = load.recovers_from(promoted).await;
    let after = load.stop().await;
    let refused = after.refused();
    after.join(&before);
    let figures = verify(&standby, &after).await;
    figures.print(
        "failover without a reset, a single client",
        format_args!(
            "{refused} requests without a response for 1 s each, served after {first:.2} s"
        ),
    );
}
