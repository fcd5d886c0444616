//! PgBouncer in transaction mode: many clients of several tenants share two connections to
//! PostgreSQL and see only their own data.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Until,
    load::{Load, LoadOptions},
    verification::{say, verify},
};
use crate::support::{HANG, app, cluster::Cluster, pooler::Pooler, server_process::ServerProcess};

/// How long clients run in a short run.
const DURATION: Duration = Duration::from_secs(3);

/// Far more clients than connections to PostgreSQL.
const OPTIONS: LoadOptions =
    LoadOptions { writers: 6, readers: 4, timeout: Duration::from_secs(45) };

/// What the subscribers received.
#[derive(Default)]
struct Received {
    events: AtomicU32,
    /// Subscriptions that the server ended because the client was too slow, as the API allows.
    ended: AtomicU32,
}

/// Subscribes to a tenant's projects, again after each end.
async fn watch(base: String, tenant: &'static str, received: Arc<Received>) {
    loop {
        let subscription = "subscription { projectChanged { project { name } } }";
        let mut response = reqwest::Client::new()
            .post(format!("{base}/org/{tenant}/graphql"))
            .bearer_auth(app::token(&format!("{tenant}-owner")))
            .header("accept", "text/event-stream")
            .json(&json!({ "query": subscription }))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        let mut text = String::new();
        while let Ok(Some(bytes)) = response.chunk().await {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
            while let Some((event, rest)) = text.split_once("\n\n") {
                take(event, tenant, &received);
                text = rest.to_owned();
            }
        }
    }
}

fn take(event: &str, tenant: &str, received: &Received) {
    let text = event.lines().find_map(|line| line.strip_prefix("data:")).unwrap_or_default();
    let Ok(event) = serde_json::from_str::<Value>(text.trim()) else { return };
    if event["errors"][0]["extensions"]["code"] == "UNAVAILABLE" {
        received.ended.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let name = event["data"]["projectChanged"]["project"]["name"].as_str();
    assert!(name.is_some_and(|name| name.starts_with(tenant)), "{tenant} received {event}");
    received.events.fetch_add(1, Ordering::Relaxed);
}

async fn share_two_connections(scenario: &str, until: Until) {
    let cluster = Cluster::start(&[]);
    let Some(pooler) = Pooler::start(&cluster, 2) else {
        say(format_args!("SKIPPED: {scenario}: pgbouncer is not installed"));
        return;
    };
    let direct = cluster.url();
    let settings = [
        ("DATABASE_STATEMENT_CACHE", "0"),
        ("DATABASE_LISTEN_URL", direct.as_str()),
        ("DATABASE_MAX_CONNECTIONS", "32"),
        // Clients wait for one of the two connections, on a slow machine for long.
        ("REQUEST_TIMEOUT", "60"),
        ("DATABASE_ACQUIRE_TIMEOUT", "60"),
    ];
    let server = ServerProcess::start(&pooler.url(), &settings);
    let received: [Arc<Received>; 2] = Default::default();
    let watches = ["acme", "globex"].map(|tenant| {
        let received = Arc::clone(&received[usize::from(tenant == "globex")]);
        tokio::spawn(watch(server.base.clone(), tenant, received))
    });
    let load = Load::start(&[&server.base], OPTIONS);
    load.wait_until_served().await;
    let started = Instant::now();
    until.wait(DURATION).await;
    // Subscribers that are connected and still active.
    let connections: i64 = cluster
        .value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'tenantry_app' AND application_name <> 'tenantry listen'")
        .await;
    assert!((1..=2).contains(&connections), "{connections} connections: the pooler is not used");
    let (_, all) = load.recovers_from(Instant::now()).await;
    let seconds = started.elapsed().as_secs_f64();
    let events = || received.each_ref().map(|received| received.events.load(Ordering::Relaxed));
    while !events().iter().all(|events| *events > 0) {
        assert!(started.elapsed() < HANG, "{:?}", events());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let write_log = load.stop().await;
    let events = events();
    let ended = received.each_ref().map(|received| received.ended.load(Ordering::Relaxed));
    for watch in watches {
        assert!(!watch.is_finished(), "a subscriber received foreign data");
        watch.abort();
    }
    let figures = verify(&cluster, &write_log).await;
    assert_eq!(figures.refused() + figures.unknown(), 0, "{}{}", server.log(), pooler.log());
    figures.print(
        scenario,
        format_args!(
            "40 clients on 2 connections for {seconds:.1} s, {events:?} events, {ended:?} subscriptions restarted, every client served within {all:.2} s"
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_pgbouncer_tenants_share_two_connections_and_no_data() {
    share_two_connections("PgBouncer", Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn behind_pgbouncer_tenants_share_two_connections_and_no_data_in_a_long_run() {
    share_two_connections("PgBouncer, long", Until::long()).await;
}
