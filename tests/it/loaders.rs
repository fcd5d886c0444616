//! Dataloaders: the number of SQL statements does not depend on the number of rows.

use std::sync::Arc;

use serde_json::json;
use tenantry::{
    admission::Source, auth::Caller, graphql::document::GraphqlRequest, request::RequestContext,
    tenancy::Destination,
};
use uuid::Uuid;

use crate::support::{App, AppSettings};

const DASHBOARD: &str = "query ($size: Int) { organization {
    name plan { name features { feature { key } limit } }
    projects(first: $size) { nodes { name createdBy { name } } }
    members(first: $size) { nodes { role user { name } invitedBy { name } } }
    auditLogs(first: $size) { nodes { action actor { name } } } } }";

/// Globex with 60 more users, each of whom has created a project and an audit entry.
pub(crate) async fn globex_with_60_users() -> App {
    let mut settings = AppSettings { federation: true, ..AppSettings::default() };
    settings.limits.complexity = 100_000;
    let app = App::with(settings).await;
    app.database
        .execute(
            "WITH new_users AS (
                 INSERT INTO auth.users (name) SELECT 'user ' || n FROM generate_series(1, 60) n RETURNING id
             ), globex AS (SELECT id FROM app.organizations WHERE slug = 'globex'),
             seats AS (
                 INSERT INTO auth.organization_members (organization_id, user_id, role, invited_by)
                 SELECT globex.id, new_users.id, 'member', '00000000-0000-4000-8000-0000000000b2' FROM new_users, globex
             ), projects AS (
                 INSERT INTO app.projects (organization_id, name, created_by)
                 SELECT globex.id, 'p', new_users.id FROM new_users, globex
             )
             INSERT INTO audit.audit_logs (organization_id, actor_id, action, resource_type)
             SELECT globex.id, new_users.id, 'project.created', 'project' FROM new_users, globex",
        )
        .await;
    app
}

/// Returns the number of statements of a request, and its data.
pub(crate) async fn statements(
    app: &App,
    query: &str,
    variables: serde_json::Value,
) -> (u32, serde_json::Value) {
    let caller = Caller {
        expires_at: chrono::DateTime::<chrono::Utc>::MAX_UTC,
        subject: "globex-owner".to_owned(),
        organization: Some("globex".to_owned()),
        ..Caller::default()
    };
    let request = GraphqlRequest {
        query: query.to_owned(),
        operation_name: None,
        variables: variables.as_object().unwrap().clone(),
    };
    let prepared = app.service.prepare(request, Source::default()).await.unwrap();
    let destination = Destination { slug: None, client_ip: None };
    let call = RequestContext {
        caller: Arc::new(caller),
        destination,
        request_id: Uuid::nil(),
        idempotency_key: None,
        freshness: None,
        budget: app.service.budget,
    };
    let answer = Arc::clone(&app.service).execute(prepared, call).await;
    assert!(answer.response.errors.is_empty(), "{answer:?}");
    (answer.statements(), answer.response.data.into_json().unwrap())
}

#[tokio::test]
async fn a_dashboard_takes_the_same_statements_for_one_row_and_for_fifty() {
    let app = globex_with_60_users().await;
    for size in [1, 50] {
        let (count, data) = statements(&app, DASHBOARD, json!({ "size": size })).await;
        let organization = &data["organization"];
        for (list, user) in [("projects", "createdBy"), ("members", "user"), ("auditLogs", "actor")]
        {
            let nodes = organization[list]["nodes"].as_array().unwrap();
            assert_eq!(nodes.len(), size, "{list}");
            assert!(nodes.iter().all(|node| node[user]["name"].is_string()), "{list}");
        }
        // Opening; plan and its features; three lists; all users at once.
        assert_eq!(count, 7, "with {size} rows");
    }
}

#[tokio::test]
async fn aliases_of_one_look_up_share_a_statement() {
    let app = globex_with_60_users().await;
    let ids: Vec<String> = app.database.value("SELECT array_agg(id::text) FROM app.projects").await;
    let fields: Vec<_> = ids
        .iter()
        .take(20)
        .enumerate()
        .map(|(n, id)| format!("p{n}: project(id: \"{id}\") {{ id createdBy {{ id }} }}"))
        .collect();
    let query = format!("{{ organization {{ {} }} }}", fields.join(" "));
    // Opening, projects, users.
    assert_eq!(statements(&app, &query, json!({})).await.0, 3);
    let fields: Vec<_> = ids
        .iter()
        .take(20)
        .enumerate()
        .map(|(n, id)| format!("n{n}: node(id: \"{id}\") {{ id }}"))
        .collect();
    let query = format!("{{ {} }}", fields.join(" "));
    assert_eq!(statements(&app, &query, json!({})).await.0, 2);
}

#[tokio::test]
async fn a_gateway_reads_any_number_of_entities_with_one_statement() {
    let app = globex_with_60_users().await;
    let ids: serde_json::Value = app
        .database
        .value(
            "SELECT jsonb_agg(jsonb_build_object('__typename', type, 'id', id)) FROM (
                 (SELECT 'Project' AS type, id FROM app.projects WHERE name = 'p' LIMIT 50)
                 UNION ALL
                 (SELECT 'Member', m.id FROM auth.organization_members m
                  JOIN app.organizations o ON o.id = m.organization_id
                  WHERE o.slug = 'globex' LIMIT 50)) all_ids",
        )
        .await;
    let query = "query ($of: [_Any!]!) { _entities(representations: $of) {
        ... on Project { createdBy { name } } ... on Member { user { name } } } }";
    let representations = ids.as_array().unwrap();
    for count in [1, 100] {
        let variables = json!({ "of": &representations[..count] });
        let (statements, data) = statements(&app, query, variables).await;
        let found = data["_entities"].as_array().unwrap();
        assert_eq!(found.iter().filter(|entity| entity.is_object()).count(), count);
        // Opening, entities, users.
        assert_eq!(statements, 3, "for {count} entities");
    }
}

#[tokio::test]
async fn a_total_is_counted_only_when_it_is_selected() {
    let app = globex_with_60_users().await;
    let count = |selection: &'static str| {
        let app = &app;
        async move {
            statements(
                app,
                &format!("{{ organization {{ projects {{ {selection} }} }} }}"),
                json!({}),
            )
            .await
            .0
        }
    };
    assert_eq!(count("nodes { id }").await, 2);
    assert_eq!(count("totalCount nodes { id }").await, 3);
}

#[tokio::test]
async fn a_creation_takes_a_fixed_number_of_statements() {
    let app = globex_with_60_users().await;
    app.database.execute("UPDATE billing.organization_billing SET plan = 'enterprise'").await;
    let create =
        "mutation { createProject(input: { name: \"x\" }) { project { id createdBy { name } } } }";
    // Opening; lock, role; count, limit; insert, audit; creator; COMMIT.
    assert_eq!(statements(&app, create, json!({})).await.0, 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn loaded_rows_are_not_shared_between_requests() {
    let app = App::start().await;
    let query = "{ organization { projects { nodes { createdBy { id name } } } members { nodes { user { name } } } } }";
    let calls = (0..60).map(|n| {
        let slug = if n % 2 == 0 { "acme" } else { "globex" };
        let client = app.user(&format!("{slug}-viewer"));
        async move { (slug, client.query(query).await.text) }
    });
    for (slug, text) in futures_util::future::join_all(calls).await {
        assert_eq!(text.contains("Olivia"), slug == "acme", "{text}");
        assert_eq!(text.contains("Omar"), slug == "globex", "{text}");
    }
}
