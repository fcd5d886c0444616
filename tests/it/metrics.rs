//! What operators see: figures, and lines of the log, without what is nobody's business.

use serde_json::json;

use crate::support::{App, Reply, app::token};

pub async fn figures(app: &App) -> String {
    let reply = Reply::of(reqwest::Client::new().get(format!("{}/metrics", app.admin))).await;
    assert_eq!(reply.status, 200);
    assert!(
        reply.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text")
    );
    reply.text
}

#[track_caller]
fn assert_told(figures: &str, line: &str) {
    assert!(figures.lines().any(|told| told == line), "{line} is not in\n{figures}");
}

#[tokio::test]
async fn requests_are_counted_by_operation_and_code() {
    let app = App::start().await;
    let member = app.person("acme-member");
    for _ in 0..3 {
        member.data("query Dashboard { organization { name projects { nodes { name } } } }").await;
    }
    member.data("{ organization { name } }").await;
    member.query("query Broken { nothing }").await.assert_refused(400, "GRAPHQL_VALIDATION_FAILED");
    let create = "mutation Create { createProject(input: { name: \"x\" }) { project { id } } }";
    app.person("acme-viewer").query(create).await.assert_failed("FORBIDDEN");
    member.data(create).await;
    app.client(Some("globex"), Some(token("acme-member"))).query("{ organization { name } }").await;
    app.client(None, None)
        .query("{ viewer { name } }")
        .await
        .assert_refused(401, "UNAUTHENTICATED");
    let told = figures(&app).await;
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
        "tenantry_backlog{queue=\"stripe_events\"} 0",
        "tenantry_pool_connections{pool=\"requests\",state=\"busy\"} 0",
        "# EOF",
    ] {
        assert_told(&told, line);
    }
    let leased = told.lines().find_map(|line| line.strip_prefix("tenantry_calls_leased_total "));
    assert!(leased.unwrap().parse::<u64>().unwrap() > 0, "{told}");
    let memory = told.lines().find_map(|line| line.strip_prefix("tenantry_memory_bytes "));
    assert!(memory.unwrap().parse::<u64>().unwrap() > 1_000_000, "{told}");
}

#[tokio::test]
async fn figures_name_neither_organizations_nor_people() {
    let app = App::start().await;
    let secret = "a-name-that-is-nobodys-business";
    let query = "query Find($id: ID!) { organization { name project(id: $id) { name } members { nodes { user { email } } } } }";
    app.person("acme-owner").query_with(query, json!({ "id": secret })).await.data();
    let told = figures(&app).await.to_lowercase();
    for word in [secret, "acme", "olivia", "example.com", "00000000-0000"] {
        assert!(!told.contains(word), "{word} is in\n{told}");
    }
}

#[tokio::test]
async fn a_database_that_is_away_does_not_take_the_figures_along() {
    let app = App::start().await;
    app.person("acme-member").data("query Here { organization { name } }").await;
    app.database.execute("ALTER ROLE tenantry_app CONNECTION LIMIT -1").await;
    let name = &app.database.name;
    let admin = app.database.admin().database("postgres");
    let mut connection =
        <sqlx::PgConnection as sqlx::Connection>::connect_with(&admin).await.unwrap();
    for sql in [
        format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
    ] {
        sqlx::Executor::execute(&mut connection, sqlx::AssertSqlSafe(sql)).await.unwrap();
    }
    app.person("acme-member")
        .query("query Away { organization { name } }")
        .await
        .assert_refused(503, "UNAVAILABLE");
    let told = figures(&app).await;
    assert_told(&told, "tenantry_requests_total{operation=\"Here\",code=\"OK\"} 1");
    assert_told(&told, "tenantry_requests_total{operation=\"Away\",code=\"UNAVAILABLE\"} 1");
    assert!(!told.contains("tenantry_backlog{"), "{told}");
}
