//! PgBouncer in transaction mode: many clients on two connections to PostgreSQL, and nobody sees anybody else's.

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

/// Counts events of a tenant's projects, all of which must be the tenant's.
async fn watch(base: String, tenant: &'static str, events: Arc<AtomicU32>) {
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
            let told = event.lines().find_map(|line| line.strip_prefix("data:"));
            if let Some(Ok(told)) = told.map(|told| serde_json::from_str::<Value>(told.trim())) {
                let name = &told["data"]["projectChanged"]["project"]["name"];
                let named = name.as_str().is_some_and(|name| name.starts_with(tenant));
                assert!(named, "{tenant} was told {told}");
                events.fetch_add(1, Ordering::Relaxed);
            }
            text = rest.to_owned();
        }
    }
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
    ];
    let server = Served::start(&pooler.url(), &settings);
    let events: [Arc<AtomicU32>; 2] = Default::default();
    let watches = ["acme", "globex"].map(|tenant| {
        let events = Arc::clone(&events[usize::from(tenant == "globex")]);
        tokio::spawn(watch(server.base.clone(), tenant, events))
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
    let told = events.each_ref().map(|events| events.load(Ordering::Relaxed));
    assert!(told.iter().all(|told| *told > 10), "{told:?} events");
    for watch in watches {
        assert!(!watch.is_finished(), "a subscription has ended");
        watch.abort();
    }
    let figures = verify(&cluster, &book).await;
    assert_eq!(figures.refused() + figures.unknown(), 0, "{}{}", server.told(), pooler.told());
    figures.print(
        scenario,
        format_args!(
            "40 clients on 2 connections for {seconds:.1} s, {told:?} events, a turn for everybody within {all:.2} s"
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
