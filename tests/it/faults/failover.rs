//! The primary is lost, and its standby takes over: nothing that was acknowledged was on the primary alone.

use std::time::{Duration, Instant};

use super::{
    load::{Load, Pace},
    verdict::verify,
};
use crate::support::{cluster::Cluster, forwarder::Forwarder, served::Served};

/// A primary, a standby that must have what is committed, and a server in front of them.
struct Pair {
    primary: Cluster,
    standby: Cluster,
    forwarder: Forwarder,
    server: Served,
}

impl Pair {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let primary = Cluster::start(&[]);
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
        let forwarder = Forwarder::start(&primary.socket_file()).await;
        let server = Served::start(&forwarder.url(), settings);
        Self { primary, standby, forwarder, server }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_takes_over_has_every_acknowledged_write() {
    let Pair { mut primary, standby, forwarder, server } = Pair::start(&[]).await;
    let load = Load::start(&[&server.base], Pace::default());
    load.flows().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let lost = Instant::now();
    primary.kill();
    // As long as nobody has noticed.
    tokio::time::sleep(Duration::from_millis(300)).await;
    standby.promote();
    forwarder.lead_to(&standby.socket_file());
    let promoted = Instant::now();
    let (first, all) = load.recovers_from(promoted, Duration::from_secs(10)).await;
    let book = load.stop().await;
    let figures = verify(&standby, &book).await;
    assert!(figures.refused() > 0, "nobody has noticed: the test shows nothing");
    figures.print(
        "failover",
        format_args!(
            "promoted after {:.2} s, then first served after {first:.2} s, all after {all:.2} s",
            (promoted - lost).as_secs_f64()
        ),
    );
}

/// The machine is gone without a word: connections to it are silent for ever, and only new ones lead to the new primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_a_primary_that_fell_silent_are_given_up_together() {
    let Pair { mut primary, standby, forwarder, server } =
        Pair::start(&[("REQUEST_TIMEOUT", "1")]).await;
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
    let (first, _) = load.recovers_from(promoted, Duration::from_secs(6)).await;
    let after = load.stop().await;
    let refused = after.refused();
    after.join(&before);
    let figures = verify(&standby, &after).await;
    figures.print(
        "failover without a word, a client alone",
        format_args!("{refused} requests met silence for 1 s each, served after {first:.2} s"),
    );
}
