//! Metrics are visible to operators only, and clients cannot make them useless.

use std::collections::BTreeSet;

use crate::{
    metrics::figures,
    support::{App, Reply},
};

const DURATIONS: &str = "tenantry_request_duration_seconds_count";
const REQUESTS: &str = "tenantry_requests_total";

/// Returns the operation names that a metric distinguishes.
fn names<'figures>(figures: &'figures str, metric: &str) -> BTreeSet<&'figures str> {
    let prefix = format!("{metric}{{operation=\"");
    let lines = figures.lines().filter_map(|line| line.strip_prefix(&prefix));
    lines.map(|line| line.split('"').next().unwrap()).collect()
}

#[tokio::test]
async fn clients_cannot_reach_metrics() {
    let app = App::start().await;
    let get = |base: &str| Reply::of(reqwest::Client::new().get(format!("{base}/metrics")));
    assert_eq!(get(&app.base).await.status, 404);
    assert_eq!(get(&app.admin).await.status, 200);
}

#[tokio::test]
async fn made_up_operation_names_do_not_displace_real_ones() {
    let app = App::start().await;
    let member = app.user("acme-member");
    for _ in 0..5 {
        member.data("query Dashboard { viewer { id } }").await;
    }
    let outsider = app.outsider("outsider");
    for n in 0..300 {
        outsider.data(&format!("query Invented{n} {{ viewer {{ id }} }}")).await;
        // A name is dropped together with every code counted for it.
        let create = "createProject(input: { name: \"x\" }) { project { id } }";
        let failed = outsider.query(&format!("mutation Invented{n} {{ {create} }}")).await;
        failed.assert_failed("ORGANIZATION_REQUIRED");
    }
    outsider.data(&format!("query {} {{ viewer {{ id }} }}", "L".repeat(65))).await;
    member.data("query Late { viewer { id } }").await;
    let metrics = figures(&app).await;
    let names = [DURATIONS, REQUESTS].map(|metric| names(&metrics, metric));
    assert_eq!(names[0], names[1]);
    assert!(names[0].contains("Dashboard") && names[0].contains("Late"), "{names:?}");
    assert_eq!(names[0].len(), 201, "200 and other");
    let line = "tenantry_requests_total{operation=\"Dashboard\",code=\"OK\"} 5";
    assert!(metrics.lines().any(|metrics| metrics == line), "{metrics}");
}

#[tokio::test]
async fn rejected_documents_add_no_operation_name() {
    let app = App::start().await;
    let member = app.user("acme-member");
    for document in
        ["query Broken { nothing }", "query Open {", "query Deep { __typename nothing }"]
    {
        assert!(member.query(document).await.status.is_client_error(), "{document}");
    }
    assert!(names(&figures(&app).await, REQUESTS).iter().all(|name| *name == "other"));
}
