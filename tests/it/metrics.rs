//! What operators see: metrics and log lines without private data.

use std::{path::Path, process::Command};

use async_graphql::resolver_utils::EnumType;
use serde_json::json;
use tenantry::{
    error::{Error, ErrorCode},
    rate_limit::Throttle,
};

use crate::support::{App, Reply, app::token, node};

pub async fn figures(app: &App) -> String {
    let reply = Reply::of(reqwest::Client::new().get(format!("{}/metrics", app.admin))).await;
    assert_eq!(reply.status, 200);
    assert!(
        reply.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text")
    );
    reply.text
}

#[track_caller]
fn assert_has_line(figures: &str, line: &str) {
    assert!(figures.lines().any(|metrics| metrics == line), "{line} is not in\n{figures}");
}

#[tokio::test]
async fn requests_are_counted_by_operation_and_code() {
    let app = App::start().await;
    let member = app.user("acme-member");
    for _ in 0..3 {
        member.data("query Dashboard { organization { name projects { nodes { name } } } }").await;
    }
    member.data("{ organization { name } }").await;
    member.query("query Broken { nothing }").await.assert_refused(400, "GRAPHQL_VALIDATION_FAILED");
    let create = "mutation Create { createProject(input: { name: \"x\" }) { project { id } } }";
    app.user("acme-viewer").query(create).await.assert_failed("FORBIDDEN");
    member.data(create).await;
    app.client(Some("globex"), Some(token("acme-member"))).query("{ organization { name } }").await;
    app.client(None, None)
        .query("{ viewer { name } }")
        .await
        .assert_refused(401, "UNAUTHENTICATED");
    let metrics = figures(&app).await;
    for line in [
        "tenantry_requests_total{operation=\"Dashboard\",code=\"OK\"} 3",
        "tenantry_requests_total{operation=\"other\",code=\"OK\"} 1",
        "tenantry_requests_total{operation=\"other\",code=\"GRAPHQL_VALIDATION_FAILED\"} 1",
        "tenantry_requests_total{operation=\"Create\",code=\"FORBIDDEN\"} 1",
        "tenantry_requests_total{operation=\"Create\",code=\"OK\"} 1",
        "tenantry_requests_total{operation=\"other\",code=\"NOT_FOUND\"} 1",
        "tenantry_requests_total{operation=\"other\",code=\"UNAUTHENTICATED\"} 1",
        "tenantry_request_duration_seconds_count{operation=\"Dashboard\"} 3",
        "tenantry_sessions_open 0",
        "tenantry_requests_waiting 0",
        "tenantry_subscriptions_open 0",
        "tenantry_backlog{queue=\"mail\"} 0",
        "tenantry_backlog{queue=\"stripe_seats\"} 0",
        "tenantry_backlog{queue=\"stripe_events\"} 0",
        "tenantry_pool_connections{pool=\"requests\",state=\"busy\"} 0",
        "# EOF",
    ] {
        assert_has_line(&metrics, line);
    }
    let leased = metrics.lines().find_map(|line| line.strip_prefix("tenantry_calls_leased_total "));
    assert!(leased.unwrap().parse::<u64>().unwrap() > 0, "{metrics}");
    let memory = metrics.lines().find_map(|line| line.strip_prefix("tenantry_memory_bytes "));
    assert!(memory.unwrap().parse::<u64>().unwrap() > 1_000_000, "{metrics}");
}

#[tokio::test]
async fn metrics_contain_no_names_of_organizations_or_users() {
    let app = App::start().await;
    let secret = "a-name-that-is-nobodys-business";
    let query = "query Find($id: ID!) { organization { name project(id: $id) { name } members { nodes { user { email } } } } }";
    app.user("acme-owner").query_with(query, json!({ "id": secret })).await.data();
    let metrics = figures(&app).await.to_lowercase();
    for word in [secret, "acme", "olivia", "example.com", "00000000-0000"] {
        assert!(!metrics.contains(word), "{word} is in\n{metrics}");
    }
}

#[tokio::test]
async fn an_unavailable_database_does_not_stop_the_metrics() {
    let app = App::start().await;
    app.user("acme-member").data("query Here { organization { name } }").await;
    app.database.execute("ALTER ROLE tenantry_app CONNECTION LIMIT -1").await;
    let name = &app.database.name;
    let admin = app.database.admin().with("dbname", "postgres");
    let connection = pg::Client::connect(&admin).await.unwrap();
    for sql in [
        format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
    ] {
        connection.batch(&sql).await.unwrap();
    }
    app.user("acme-member")
        .query("query Away { organization { name } }")
        .await
        .assert_refused(503, "UNAVAILABLE");
    let metrics = figures(&app).await;
    assert_has_line(&metrics, "tenantry_requests_total{operation=\"Here\",code=\"OK\"} 1");
    assert_has_line(&metrics, "tenantry_requests_total{operation=\"Away\",code=\"UNAVAILABLE\"} 1");
    assert!(!metrics.contains("tenantry_backlog{"), "{metrics}");
}

#[tokio::test]
async fn counters_of_alerts_begin_at_zero() {
    let metrics = figures(&App::start().await).await;
    for alert in ["seat_changes_total{outcome=\"given_up\"}", "webhooks_total{outcome=\"problem\"}"]
    {
        assert_has_line(&metrics, &format!("tenantry_{alert} 0"));
    }
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_use_metrics_that_exist() {
    let Some(scripts) = node::packages().await else {
        eprintln!("SKIPPED: npm is not installed");
        return;
    };
    let app = App::start().await;
    app.user("acme-member").data("query Here { organization { name } }").await;
    // Every value of the labels that alerts select.
    let metrics = &app.service.metrics;
    for code in ErrorCode::items() {
        metrics.refused(code.name);
    }
    for throttle in
        [Throttle::Running, Throttle::Waiting, Throttle::Shared, Throttle::Rate, Throttle::Attempts]
    {
        metrics.limited(&Error::RateLimited { throttle, retry_after: 1 });
    }
    metrics.replica_query("primary");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("metrics.txt");
    std::fs::write(&file, figures(&app).await).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/deploy/monitoring");
    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new("node");
        command.arg("monitoring.mjs").arg(folder).arg(file).current_dir(scripts).output().unwrap()
    })
    .await
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
