//! The network to PostgreSQL fails and returns: nobody waits longer than their time, and the probes
//! tell.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use sqlx::Executor;
use tokio::sync::watch;

use super::{
    Until,
    load::{Fate, Load, Pace},
    verdict::{say, verify},
};
use crate::support::{
    app,
    cluster::Cluster,
    forwarder::{Forwarder, Network},
    served::Served,
};

const TIMEOUT: Duration = Duration::from_secs(2);

/// What a probe is answered, and how fast.
async fn probe(base: &str, path: &str) -> (u16, Duration) {
    let begun = Instant::now();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(6)).build().unwrap();
    let response = client.get(format!("{base}{path}")).send().await.unwrap();
    (response.status().as_u16(), begun.elapsed())
}

/// Until the server says so; how long that took.
async fn says_ready(base: &str, status: u16) -> Duration {
    let begun = Instant::now();
    while probe(base, "/readyz").await.0 != status {
        assert!(begun.elapsed() < Duration::from_secs(8), "/readyz never says {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed()
}

/// How long a client that wants to subscribe waits for any answer.
async fn subscribes(base: &str) -> Duration {
    let begun = Instant::now();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(6)).build().unwrap();
    let request = client
        .post(format!("{base}/org/acme/graphql"))
        .bearer_auth(app::token("acme-owner"))
        .header("accept", "text/event-stream")
        .json(&json!({ "query": "subscription { projectChanged { id } }" }));
    let text = request.send().await.unwrap().text().await.unwrap();
    assert!(text.contains("TIMEOUT") || text.contains("UNAVAILABLE"), "{text}");
    begun.elapsed()
}

/// The process lives, whatever the database does; the slowest answer.
async fn lives(base: String, mut stop: watch::Receiver<bool>) -> Duration {
    let mut slowest = Duration::ZERO;
    while !*stop.borrow_and_update() {
        let (status, took) = probe(&base, "/healthz").await;
        assert_eq!(status, 200);
        slowest = slowest.max(took);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    slowest
}

async fn network_fails(scenario: &str, network: Network) {
    let cluster = Cluster::start(&[]);
    let forwarder = Forwarder::start(&cluster.socket_file()).await;
    let settings = [("REQUEST_TIMEOUT", "2"), ("DATABASE_ACQUIRE_TIMEOUT", "1")];
    let server = Served::start(&forwarder.url(), &settings);
    let load = Load::start(&[&server.base], Pace::default());
    load.flows().await;
    says_ready(&server.base, 200).await;
    let stop = watch::Sender::new(false);
    let living = tokio::spawn(lives(server.base.clone(), stop.subscribe()));
    forwarder.set(network);
    let (told, subscribed) = tokio::join!(says_ready(&server.base, 503), subscribes(&server.base));
    assert!(subscribed < TIMEOUT + Duration::from_secs(2), "answered after {subscribed:?}");
    let told = told.as_secs_f64();
    tokio::time::sleep(Duration::from_millis(500)).await;
    forwarder.set(Network::Whole);
    let returned = Instant::now();
    let (first, all) = load.recovers_from(returned, Duration::from_secs(8)).await;
    let ready = says_ready(&server.base, 200).await + returned.elapsed();
    stop.send_replace(true);
    let slowest = living.await.unwrap();
    assert!(slowest < Duration::from_secs(3), "/healthz took {slowest:?}");
    let book = load.stop().await;
    let longest = longest_refusal(&book);
    assert!(longest < TIMEOUT + Duration::from_secs(2), "refused after {longest:?}");
    let figures = verify(&cluster, &book).await;
    assert!(figures.refused() > 0, "nobody has noticed: the test shows nothing");
    figures.print(
        scenario,
        format_args!(
            "refused after {:.2} s at the most, /readyz 503 after {told:.2} s and 200 after {:.2} s, \
             first served after {first:.2} s, all after {all:.2} s",
            longest.as_secs_f64(),
            ready.as_secs_f64(),
        ),
    );
}

fn longest_refusal(book: &Arc<super::load::Book>) -> Duration {
    let writes = book.writes.lock().unwrap();
    let refused = writes.values().filter(|write| matches!(write.fate, Fate::Refused(_)));
    refused.map(|write| write.ended - write.begun).max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_network_keeps_nobody_waiting_beyond_their_time() {
    network_fails("network silent", Network::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_refuses_is_told_at_once_and_forgotten_when_it_returns() {
    network_fails("network refusing", Network::Refusing).await;
}

/// Calls are leased on connections of the server's own, for which no request's time runs out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes twenty seconds"]
async fn a_lease_on_a_connection_that_fell_silent_is_given_up() {
    let cluster = Cluster::start(&[]);
    let forwarder = Forwarder::start(&cluster.socket_file()).await;
    let server = Served::start(&forwarder.url(), &[("REQUEST_TIMEOUT", "1")]);
    // Three leases at once, for as many connections as the pool of the server's own work has.
    let mut admin = cluster.connect_admin().await;
    admin.execute("BEGIN; LOCK TABLE billing.usage IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let others = ["acme", "globex", "initech"].map(|tenant| Load::start_one(&server.base, tenant));
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'tenantry_app'";
    while cluster.value::<i64>(waiting).await < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    admin.execute("ROLLBACK").await.unwrap();
    for load in others {
        load.flows().await;
        load.stop().await;
    }
    forwarder.freeze();
    let silent = Instant::now();
    let load = Load::start_one(&server.base, "hooli");
    let (first, _) = load.recovers_from(silent, Duration::from_secs(30)).await;
    let book = load.stop().await;
    say(format_args!("lease on a silent connection: served after {first:.2} s"));
    assert!(
        first > 5.0 && book.refused() > 1,
        "no silent connection was used: the test shows nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn a_network_that_comes_and_goes_loses_no_acknowledged_write() {
    let cluster = Cluster::start(&[]);
    let forwarder = Forwarder::start(&cluster.socket_file()).await;
    let server = Served::start(&forwarder.url(), &[]);
    let load = Load::start(&[&server.base], Pace::default());
    let (until, mut rounds, mut slowest) = (Until::long(), 0, 0.0_f64);
    while !until.is_over() {
        load.flows().await;
        let faults = [Network::Silent, Network::Refusing, Network::Ragged(5), Network::Whole];
        let fault = faults[fastrand::usize(0..faults.len())];
        forwarder.set(fault);
        if fault == Network::Whole {
            forwarder.freeze();
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(100..3_000))).await;
        forwarder.set(Network::Whole);
        // A COMMIT whose answer never comes is waited for longest.
        let (_, all) = load.recovers_from(Instant::now(), Duration::from_secs(50)).await;
        slowest = slowest.max(all);
        rounds += 1;
    }
    let figures = verify(&cluster, &load.stop().await).await;
    assert!(figures.refused() > 0, "nobody has noticed: the test shows nothing");
    figures.print(
        "network comes and goes, long",
        format_args!("{rounds} rounds, all served after {slowest:.2} s at the most"),
    );
}
