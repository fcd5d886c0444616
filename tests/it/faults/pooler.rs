//! PgBouncer in transaction mode: many clients on two connections to PostgreSQL, and nobody sees
//! anybody else's.

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
    load::{Load, Pace},
    verdict::{say, verify},
};
use crate::support::{app, cluster::Cluster, pooler::Pooler, served::Served};

/// How long clients are at it in a short run.
const SPELL: Duration = Duration::from_secs(3);

/// Far more than PostgreSQL has connections for here.
const PACE: Pace = Pace { writers: 6, readers: 4, patience: Duration::from_secs(45) };

/// What a subscriber has met.
#[derive(Default)]
struct Told {
    events: AtomicU32,
    /// Subscriptions that ended because changes came faster than they were told, as the API says
    /// they may.
    ended: AtomicU32,
}

/// Watches a tenant's projects, and begins anew where that ends.
async fn watch(base: String, tenant: &'static str, told: Arc<Told>) {
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
                take(event, tenant, &told);
                text = rest.to_owned();
            }
        }
    }
}

fn take(event: &str, tenant: &str, told: &Told) {
    let text = event.lines().find_map(|line| line.strip_prefix("data:")).unwrap_or_default();
    let Ok(event) = serde_json::from_str::<Value>(text.trim()) else { return };
    if event["errors"][0]["extensions"]["code"] == "UNAVAILABLE" {
        told.ended.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let name = event["data"]["projectChanged"]["project"]["name"].as_str();
    assert!(name.is_some_and(|name| name.starts_with(tenant)), "{tenant} was told {event}");
    told.events.fetch_add(1, Ordering::Relaxed);
}

async fn many_share_two_connections(scenario: &str, until: Until) {
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
        // Everyone waits for two connections, on a busy machine for long.
        ("DATABASE_ACQUIRE_TIMEOUT", "60"),
    ];
    let server = Served::start(&pooler.url(), &settings);
    let told: [Arc<Told>; 2] = Default::default();
    let watches = ["acme", "globex"].map(|tenant| {
        let told = Arc::clone(&told[usize::from(tenant == "globex")]);
        tokio::spawn(watch(server.base.clone(), tenant, told))
    });
    let load = Load::start(&[&server.base], PACE);
    load.flows().await;
    let begun = Instant::now();
    until.passes(SPELL).await;
    // Whoever is there now was not only connected, but still is.
    let connections: i64 = cluster
        .value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'tenantry_app' AND application_name <> 'tenantry listen'")
        .await;
    assert!((1..=2).contains(&connections), "{connections} connections: the pooler is not used");
    let (_, all) = load.recovers_from(Instant::now(), Duration::from_secs(10)).await;
    let seconds = begun.elapsed().as_secs_f64();
    let book = load.stop().await;
    let events = told.each_ref().map(|told| told.events.load(Ordering::Relaxed));
    let ended = told.each_ref().map(|told| told.ended.load(Ordering::Relaxed));
    assert!(events.iter().all(|events| *events > 0), "{events:?}");
    for watch in watches {
        assert!(!watch.is_finished(), "a subscriber was told what is not theirs");
        watch.abort();
    }
    let figures = verify(&cluster, &book).await;
    assert_eq!(figures.refused() + figures.unknown(), 0, "{}{}", server.told(), pooler.told());
    figures.print(
        scenario,
        format_args!(
            "40 clients on 2 connections for {seconds:.1} s, {events:?} events, {ended:?} subscriptions begun anew, a turn for everybody within {all:.2} s"
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_pgbouncer_tenants_share_two_connections_and_nothing_else() {
    many_share_two_connections("PgBouncer", Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn behind_pgbouncer_tenants_share_two_connections_for_long() {
    many_share_two_connections("PgBouncer, long", Until::long()).await;
}
