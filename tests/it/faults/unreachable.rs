//! The network to PostgreSQL fails and recovers. No request waits longer than its timeout, and the
//! probes report the state.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::sync::watch;

use super::{
    Until,
    load::{Load, LoadOptions, WriteOutcome},
    verification::{say, verify},
};
use crate::support::{
    app,
    cluster::Cluster,
    forwarder::{Forwarder, Network},
    server_process::ServerProcess,
};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Returns a probe's status and its latency.
async fn probe(base: &str, path: &str) -> (u16, Duration) {
    let started = Instant::now();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(6)).build().unwrap();
    let response = client.get(format!("{base}{path}")).send().await.unwrap();
    (response.status().as_u16(), started.elapsed())
}

/// Waits until the server reports this status, and returns how long that took.
async fn wait_for_readiness(base: &str, status: u16) -> Duration {
    let started = Instant::now();
    while probe(base, "/readyz").await.0 != status {
        assert!(started.elapsed() < Duration::from_secs(8), "/readyz never returns {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    started.elapsed()
}

/// Returns how long a client that subscribes waits for any response.
async fn subscription_latency(base: &str) -> Duration {
    let started = Instant::now();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(6)).build().unwrap();
    let request = client
        .post(format!("{base}/org/acme/graphql"))
        .bearer_auth(app::token("acme-owner"))
        .header("accept", "text/event-stream")
        .json(&json!({ "query": "subscription { projectChanged { id } }" }));
    let text = request.send().await.unwrap().text().await.unwrap();
    assert!(text.contains("TIMEOUT") || text.contains("UNAVAILABLE"), "{text}");
    started.elapsed()
}

/// Asserts that the liveness probe succeeds throughout, and returns its slowest response.
async fn assert_alive(base: String, mut stop: watch::Receiver<bool>) -> Duration {
    let mut slowest = Duration::ZERO;
    while !*stop.borrow_and_update() {
        let (status, took) = probe(&base, "/healthz").await;
        assert_eq!(status, 200);
        slowest = slowest.max(took);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    slowest
}

async fn fail_network(scenario: &str, network: Network) {
    let cluster = Cluster::start(&[]);
    let forwarder = Forwarder::start(&cluster.socket_file()).await;
    let settings = [("REQUEST_TIMEOUT", "2"), ("DATABASE_ACQUIRE_TIMEOUT", "1")];
    let server = ServerProcess::start(&forwarder.url(), &settings);
    let load = Load::start(&[&server.base], LoadOptions::default());
    load.wait_until_served().await;
    wait_for_readiness(&server.base, 200).await;
    let stop = watch::Sender::new(false);
    let living = tokio::spawn(assert_alive(server.base.clone(), stop.subscribe()));
    forwarder.set(network);
    let (reported, subscribed) =
        tokio::join!(wait_for_readiness(&server.base, 503), subscription_latency(&server.base));
    assert!(subscribed < TIMEOUT + Duration::from_secs(2), "response after {subscribed:?}");
    let reported = reported.as_secs_f64();
    tokio::time::sleep(Duration::from_millis(500)).await;
    forwarder.set(Network::Whole);
    let returned = Instant::now();
    let (first, all) = load.recovers_from(returned, Duration::from_secs(8)).await;
    let ready = wait_for_readiness(&server.base, 200).await + returned.elapsed();
    stop.send_replace(true);
    let slowest = living.await.unwrap();
    assert!(slowest < Duration::from_secs(3), "/healthz took {slowest:?}");
    let write_log = load.stop().await;
    let longest = longest_rejection(&write_log);
    assert!(longest < TIMEOUT + Duration::from_secs(2), "rejected after {longest:?}");
    let figures = verify(&cluster, &write_log).await;
    assert!(figures.refused() > 0, "no client noticed, so the test shows nothing");
    figures.print(
        scenario,
        format_args!(
            "rejected after at most {:.2} s, /readyz 503 after {reported:.2} s and 200 after {:.2} s, first served after {first:.2} s, all after {all:.2} s",
            longest.as_secs_f64(),
            ready.as_secs_f64(),
        ),
    );
}

fn longest_rejection(write_log: &Arc<super::load::WriteLog>) -> Duration {
    let writes = write_log.writes.lock().unwrap();
    let refused = writes.values().filter(|write| matches!(write.outcome, WriteOutcome::Refused(_)));
    refused.map(|write| write.ended - write.started).max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_silent_network_no_request_exceeds_its_timeout() {
    fail_network("network silent", Network::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusing_network_is_reported_at_once_and_recovery_is_immediate() {
    fail_network("network refusing", Network::Refusing).await;
}

/// The server leases calls on its own connections, which have no request timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes twenty seconds"]
async fn a_lease_on_a_silent_connection_is_abandoned() {
    let cluster = Cluster::start(&[]);
    let forwarder = Forwarder::start(&cluster.socket_file()).await;
    let server = ServerProcess::start(&forwarder.url(), &[("REQUEST_TIMEOUT", "1")]);
    // Three concurrent leases, for the three connections of the server's own pool.
    let admin = cluster.connect_admin().await;
    admin.batch("BEGIN; LOCK TABLE billing.usage IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let others = ["acme", "globex", "initech"].map(|tenant| Load::start_one(&server.base, tenant));
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'tenantry_app'";
    while cluster.value::<i64>(waiting).await < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    admin.batch("ROLLBACK").await.unwrap();
    for load in others {
        load.wait_until_served().await;
        load.stop().await;
    }
    forwarder.freeze();
    let silent = Instant::now();
    let load = Load::start_one(&server.base, "hooli");
    let (first, _) = load.recovers_from(silent, Duration::from_secs(30)).await;
    let write_log = load.stop().await;
    say(format_args!("lease on a silent connection: served after {first:.2} s"));
    assert!(
        first > 5.0 && write_log.refused() > 1,
        "no silent connection was used, so the test shows nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn an_unstable_network_loses_no_acknowledged_write() {
    let cluster = Cluster::start(&[]);
    let forwarder = Forwarder::start(&cluster.socket_file()).await;
    let server = ServerProcess::start(&forwarder.url(), &[]);
    let load = Load::start(&[&server.base], LoadOptions::default());
    let (until, mut rounds, mut slowest) = (Until::long(), 0, 0.0_f64);
    while !until.has_ended() {
        load.wait_until_served().await;
        let faults = [Network::Silent, Network::Refusing, Network::Ragged(5), Network::Whole];
        let fault = faults[fastrand::usize(0..faults.len())];
        forwarder.set(fault);
        if fault == Network::Whole {
            forwarder.freeze();
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(100..3_000))).await;
        forwarder.set(Network::Whole);
        // A COMMIT without a response is waited for the longest.
        let (_, all) = load.recovers_from(Instant::now(), Duration::from_secs(50)).await;
        slowest = slowest.max(all);
        rounds += 1;
    }
    let figures = verify(&cluster, &load.stop().await).await;
    assert!(figures.refused() > 0, "no client noticed, so the test shows nothing");
    figures.print(
        "unstable network, long",
        format_args!("{rounds} rounds, all served after at most {slowest:.2} s"),
    );
}
