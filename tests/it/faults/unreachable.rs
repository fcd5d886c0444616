//! The network to PostgreSQL fails and recovers. No request waits longer than its timeout, and the
//! probes report the state.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    Until,
    load::{Load, LoadOptions, WriteOutcome},
    verification::{say, verify},
};
use crate::support::{
    HANG, app,
    cluster::Cluster,
    forwarder::{Forwarder, Network},
    server_process::ServerProcess,
};

/// Returns a probe's status.
async fn probe(base: &str, path: &str) -> u16 {
    let client = reqwest::Client::builder().timeout(HANG).build().unwrap();
    client.get(format!("{base}{path}")).send().await.unwrap().status().as_u16()
}

/// Waits until the server reports this status, and returns how long that took.
async fn wait_for_readiness(base: &str, status: u16) -> Duration {
    let started = Instant::now();
    while probe(base, "/readyz").await != status {
        assert!(started.elapsed() < HANG, "/readyz never returns {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    started.elapsed()
}

/// Returns how long a client that subscribes waits for any response.
async fn subscription_latency(base: &str) -> Duration {
    let started = Instant::now();
    let client = reqwest::Client::builder().timeout(HANG).build().unwrap();
    let request = client
        .post(format!("{base}/org/acme/graphql"))
        .bearer_auth(app::token("acme-owner"))
        .header("accept", "text/event-stream")
        .json(&json!({ "query": "subscription { projectChanged { id } }" }));
    let text = request.send().await.unwrap().text().await.unwrap();
    assert!(text.contains("TIMEOUT") || text.contains("UNAVAILABLE"), "{text}");
    started.elapsed()
}

/// Waits until a write that began after this moment is rejected, and returns how long it took.
async fn rejection_latency(load: &Load, then: Instant) -> Duration {
    loop {
        let rejected = load.write_log.writes.lock().unwrap().values().find_map(|write| {
            let refused = matches!(write.outcome, WriteOutcome::Refused(_));
            (refused && write.started > then).then(|| write.ended - write.started)
        });
        if let Some(latency) = rejected {
            return latency;
        }
        assert!(then.elapsed() < HANG, "no write is rejected");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn fail_network(scenario: &str, network: Network) {
    let cluster = Cluster::start(&[]);
    let forwarder = Forwarder::start(&cluster.socket_file()).await;
    // Enough connections that no client waits for another one of its organization.
    let settings = [
        ("REQUEST_TIMEOUT", "2"),
        ("DATABASE_ACQUIRE_TIMEOUT", "1"),
        ("DATABASE_MAX_CONNECTIONS", "16"),
    ];
    let server = ServerProcess::start(&forwarder.url(), &settings);
    let load = Load::start(&[&server.base], LoadOptions::default());
    load.wait_until_served().await;
    wait_for_readiness(&server.base, 200).await;
    forwarder.set(network);
    let failed = Instant::now();
    // Every client gets a response while the network still fails, so nothing waits for its return.
    let (reported, subscribed, rejected) = tokio::join!(
        wait_for_readiness(&server.base, 503),
        subscription_latency(&server.base),
        rejection_latency(&load, failed),
    );
    assert_eq!(probe(&server.base, "/healthz").await, 200);
    forwarder.set(Network::Whole);
    let returned = Instant::now();
    let (first, all) = load.recovers_from(returned).await;
    wait_for_readiness(&server.base, 200).await;
    let ready = returned.elapsed();
    let figures = verify(&cluster, &load.stop().await).await;
    figures.print(
        scenario,
        format_args!(
            "a write rejected after {:.2} s, a subscription after {:.2} s, /readyz 503 after {:.2} s and 200 after {:.2} s, first served after {first:.2} s, all after {all:.2} s",
            rejected.as_secs_f64(),
            subscribed.as_secs_f64(),
            reported.as_secs_f64(),
            ready.as_secs_f64(),
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_silent_network_every_request_is_answered_while_the_silence_lasts() {
    fail_network("network silent", Network::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_refusing_network_every_request_is_answered_and_recovery_needs_no_restart() {
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
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'tenantry_system'";
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
    let (first, _) = load.recovers_from(silent).await;
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
        let (_, all) = load.recovers_from(Instant::now()).await;
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
