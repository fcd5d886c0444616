//! Pages: complete and without repetition, from both ends, while the list changes.

use serde_json::{Value, json};

use crate::support::{App, Client};

const PROJECTS: &str = "query ($first: Int, $after: String, $last: Int, $before: String) {
    organization { projects(first: $first, after: $after, last: $last, before: $before) {
        totalCount nodes { name } edges { cursor node { name } }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }";

async fn page(client: &Client, variables: Value) -> Value {
    client.query_with(PROJECTS, variables).await.data()["organization"]["projects"].clone()
}

fn names(page: &Value) -> Vec<String> {
    page["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Acme with 25 projects, several of them created at the same instant.
async fn acme() -> (App, Vec<String>) {
    let app = App::start().await;
    app.database
        .execute(
            "DELETE FROM app.projects;
             INSERT INTO app.projects (organization_id, name, created_at)
             SELECT o.id, 'p' || n, timestamptz '2026-01-01' + interval '1 microsecond' * (n / 3)
             FROM app.organizations o, generate_series(1, 25) n",
        )
        .await;
    let expected: Vec<String> = app
        .database
        .value(
            "SELECT array_agg(p.name ORDER BY p.created_at DESC, p.id DESC) FROM app.projects p
             JOIN app.organizations o ON o.id = p.organization_id WHERE o.slug = 'acme'",
        )
        .await;
    (app, expected)
}

#[tokio::test]
async fn pages_from_either_end_cover_the_list_once() {
    let (app, expected) = acme().await;
    let client = app.user("acme-viewer");
    let mut forward = Vec::new();
    let mut after = Value::Null;
    loop {
        let page = page(&client, json!({ "first": 4, "after": after })).await;
        assert_eq!(page["totalCount"], 25);
        assert_eq!(page["pageInfo"]["hasPreviousPage"], json!(!after.is_null()));
        assert_eq!(page["edges"][0]["cursor"], page["pageInfo"]["startCursor"]);
        forward.extend(names(&page));
        if page["pageInfo"]["hasNextPage"] == json!(false) {
            break;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
    assert_eq!(forward, expected);

    let mut backward = Vec::new();
    let mut before = Value::Null;
    loop {
        let page = page(&client, json!({ "last": 7, "before": before })).await;
        backward.splice(0..0, names(&page));
        if page["pageInfo"]["hasPreviousPage"] == json!(false) {
            break;
        }
        before = page["pageInfo"]["startCursor"].clone();
    }
    assert_eq!(backward, expected);
}

#[tokio::test]
async fn concurrent_changes_neither_repeat_nor_skip_rows_between_pages() {
    let (app, expected) = acme().await;
    let client = app.user("acme-viewer");
    let first = page(&client, json!({ "first": 10 })).await;
    app.database
        .execute(&format!(
            "DELETE FROM app.projects WHERE name = '{}';
             INSERT INTO app.projects (organization_id, name) SELECT id, 'newest' FROM app.organizations",
            expected[9]
        ))
        .await;
    let second =
        page(&client, json!({ "first": 10, "after": first["pageInfo"]["endCursor"] })).await;
    assert_eq!(names(&second), expected[10..20]);
}

#[tokio::test]
async fn the_default_page_has_twenty_rows_and_errors_name_the_argument() {
    let (app, expected) = acme().await;
    let client = app.user("acme-viewer");
    assert_eq!(names(&page(&client, json!({})).await), expected[..20]);
    assert!(names(&page(&client, json!({ "first": 0 })).await).is_empty());
    assert_eq!(names(&page(&client, json!({ "first": 100 })).await), expected);
    for (variables, field) in [
        (json!({ "first": 101 }), "first"),
        (json!({ "first": -1 }), "first"),
        (json!({ "last": 101 }), "last"),
        (json!({ "first": 1, "last": 1 }), "last"),
        (json!({ "after": "nonsense" }), "after"),
        (json!({ "before": "AAAA" }), "before"),
    ] {
        let reply = client.query_with(PROJECTS, variables.clone()).await;
        assert_eq!(reply.codes(), ["BAD_USER_INPUT"], "{variables}");
        assert_eq!(reply.body["errors"][0]["extensions"]["field"], field);
    }
}

#[tokio::test]
async fn members_and_audit_logs_have_pages_as_well() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    for list in ["members", "auditLogs"] {
        let mut seen = Vec::new();
        let mut after = Value::Null;
        loop {
            let query = format!(
                "query ($after: String) {{ organization {{ list: {list}(first: 1, after: $after) {{
                     nodes {{ id }} pageInfo {{ hasNextPage endCursor }} }} }} }}"
            );
            let data = owner.query_with(&query, json!({ "after": after })).await.data();
            let page = &data["organization"]["list"];
            seen.push(page["nodes"][0]["id"].as_str().unwrap().to_owned());
            if page["pageInfo"]["hasNextPage"] == json!(false) {
                break;
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!((count, seen.len()), (4, 4), "{list}");
    }
}

#[tokio::test]
async fn the_audit_log_can_be_filtered() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let count = |filter: &'static str| {
        let owner = owner.clone();
        async move {
            let query = format!(
                "{{ organization {{ auditLogs(filter: {filter}) {{ nodes {{ id }} }} }} }}"
            );
            let data = owner.data(&query).await;
            data["organization"]["auditLogs"]["nodes"].as_array().unwrap().len()
        }
    };
    assert_eq!(count("{}").await, 4);
    assert_eq!(count("{ actorId: \"00000000-0000-4000-8000-0000000000a3\" }").await, 2);
    assert_eq!(count("{ action: \"project.created\", resourceType: \"project\" }").await, 4);
    assert_eq!(count("{ action: \"project.deleted\" }").await, 0);
    assert_eq!(count("{ since: \"2100-01-01T00:00:00Z\" }").await, 0);
    assert_eq!(count("{ until: \"2100-01-01T00:00:00Z\" }").await, 4);
    for (filter, field) in [
        ("{ action: \"a\\u0000\" }", "filter.action"),
        ("{ resourceType: \"\" }", "filter.resourceType"),
        ("{ since: \"-9999-01-01T00:00:00Z\" }", "filter.since"),
        ("{ since: \"yesterday\" }", "organization.auditLogs"),
    ] {
        let query =
            format!("{{ organization {{ auditLogs(filter: {filter}) {{ nodes {{ id }} }} }} }}");
        let reply = owner.query(&query).await;
        assert_eq!(reply.codes(), ["BAD_USER_INPUT"], "{reply:?}");
        assert_eq!(reply.body["errors"][0]["extensions"]["field"], field);
    }
    let reply = owner
        .query("{ organization { auditLogs(filter: { actorId: \"x\" }) { nodes { id } } } }")
        .await;
    assert_eq!(reply.codes(), ["BAD_USER_INPUT"]);
    assert_eq!(reply.body["errors"][0]["extensions"]["field"], "filter.actorId");
}
