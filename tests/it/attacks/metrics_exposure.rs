//! What operators measure is shown to operators alone, and clients cannot make it useless.

use std::collections::BTreeSet;

use crate::{
    metrics::figures,
    support::{App, Reply},
};

const DURATIONS: &str = "tenantry_request_duration_seconds_count";
const REQUESTS: &str = "tenantry_requests_total";

/// The names of operations that a metric tells apart.
fn names<'figures>(figures: &'figures str, metric: &str) -> BTreeSet<&'figures str> {
    let prefix = format!("{metric}{{operation=\"");
    let lines = figures.lines().filter_map(|line| line.strip_prefix(&prefix));
    lines.map(|line| line.split('"').next().unwrap()).collect()
}

#[tokio::test]
async fn metrics_are_not_where_clients_are() {
    let app = App::start().await;
    let get = |base: &str| Reply::of(reqwest::Client::new().get(format!("{base}/metrics")));
    assert_eq!(get(&app.base).await.status, 404);
    assert_eq!(get(&app.admin).await.status, 200);
}

#[tokio::test]
async fn invented_names_do_not_displace_those_in_use() {
    let app = App::start().await;
    let member = app.person("acme-member");
    for _ in 0..5 {
        member.data("query Dashboard { viewer { id } }").await;
    }
    let stranger = app.stranger("stranger");
    for n in 0..300 {
        stranger.data(&format!("query Invented{n} {{ viewer {{ id }} }}")).await;
        // A name is forgotten with each code that was counted of it.
        let create = "createProject(input: { name: \"x\" }) { project { id } }";
        let failed = stranger.query(&format!("mutation Invented{n} {{ {create} }}")).await;
        failed.assert_failed("ORGANIZATION_REQUIRED");
    }
    stranger.data(&format!("query {} {{ viewer {{ id }} }}", "L".repeat(65))).await;
    member.data("query Late { viewer { id } }").await;
    let told = figures(&app).await;
    let names = [DURATIONS, REQUESTS].map(|metric| names(&told, metric));
    assert_eq!(names[0], names[1]);
    assert!(names[0].contains("Dashboard") && names[0].contains("Late"), "{names:?}");
    assert_eq!(names[0].len(), 201, "200 and other");
    let line = "tenantry_requests_total{operation=\"Dashboard\",code=\"OK\"} 5";
    assert!(told.lines().any(|told| told == line), "{told}");
}

#[tokio::test]
async fn documents_that_are_refused_name_no_operation() {
    let app = App::start().await;
    let member = app.person("acme-member");
    for document in
        ["query Broken { nothing }", "query Open {", "query Deep { __typename nothing }"]
    {
        assert!(member.query(document).await.status.is_client_error(), "{document}");
    }
    assert!(names(&figures(&app).await, REQUESTS).iter().all(|name| *name == "other"));
}
