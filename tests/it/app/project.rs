//! Projects: what each operation does, rejects and records.

use serde_json::json;

use crate::support::App;

const CREATE: &str = "mutation ($input: CreateProjectInput!) {
    createProject(input: $input) { project { id name description createdBy { name } createdAt updatedAt } } }";
const UPDATE: &str = "mutation ($input: UpdateProjectInput!) {
    updateProject(input: $input) { project { name description } } }";
const DELETE: &str = "mutation ($id: ID!) { deleteProject(input: { id: $id }) { project { id name createdBy { name } } } }";

#[tokio::test]
async fn creating_updating_and_deleting_a_project_is_recorded() {
    let app = App::start().await;
    let member = app.user("acme-member");
    let input = json!({ "name": "  Earthquake pills ", "description": "Just add\nwater." });
    let data = member.query_with(CREATE, json!({ "input": input })).await.data();
    let project = &data["createProject"]["project"];
    assert_eq!(project["name"], "Earthquake pills");
    assert_eq!(project["description"], "Just add\nwater.");
    assert_eq!(project["createdBy"]["name"], "Mia");
    let id = project["id"].as_str().unwrap();

    for (input, expected) in [
        (
            json!({ "id": id, "name": "Pills" }),
            json!({ "name": "Pills", "description": "Just add\nwater." }),
        ),
        (json!({ "id": id, "description": null }), json!({ "name": "Pills", "description": null })),
        (json!({ "id": id }), json!({ "name": "Pills", "description": null })),
    ] {
        let data = member.query_with(UPDATE, json!({ "input": input })).await.data();
        assert_eq!(data["updateProject"]["project"], expected);
    }
    member.query_with(DELETE, json!({ "id": id })).await.assert_failed("FORBIDDEN");
    let admin = app.user("acme-admin");
    let data = admin.query_with(DELETE, json!({ "id": id })).await.data();
    assert_eq!(
        data["deleteProject"]["project"],
        json!({ "id": id, "name": "Pills", "createdBy": { "name": "Mia" } })
    );
    admin.query_with(DELETE, json!({ "id": id })).await.assert_failed("NOT_FOUND");

    let logs = admin
        .query_with(
            "query ($id: ID!) { organization { auditLogs(filter: { resourceId: $id }) {
                 nodes { action actor { name } actorName resourceType resourceId metadata ipAddress } } } }",
            json!({ "id": id }),
        )
        .await
        .data();
    let entry = |action: &str, actor: &str, metadata: serde_json::Value| {
        json!({ "action": action, "actor": { "name": actor }, "actorName": actor, "resourceType": "project",
                "resourceId": id, "metadata": metadata, "ipAddress": "127.0.0.1" })
    };
    assert_eq!(
        logs["organization"]["auditLogs"]["nodes"],
        json!([
            entry("project.deleted", "Adam", json!({ "name": "Pills" })),
            entry(
                "project.updated",
                "Mia",
                json!({ "name": "Pills", "old_description": "Just add\nwater.", "description": null })
            ),
            entry(
                "project.updated",
                "Mia",
                json!({ "name": "Pills", "old_name": "Earthquake pills" })
            ),
            entry("project.created", "Mia", json!({ "name": "Earthquake pills" })),
        ]),
        "a change to the same value adds no entry"
    );
}

#[tokio::test]
async fn a_bad_input_error_names_its_field_and_nothing_changes() {
    let app = App::start().await;
    let before = app.database.fingerprint().await;
    let member = app.user("acme-member");
    for (input, field) in [
        (json!({ "name": "" }), "input.name"),
        (json!({ "name": " \t " }), "input.name"),
        (json!({ "name": "x".repeat(101) }), "input.name"),
        (json!({ "name": "a\u{0}b" }), "input.name"),
        (json!({ "name": "a\nb" }), "input.name"),
        (json!({ "name": "ok", "description": "x".repeat(2_001) }), "input.description"),
        (json!({ "name": "ok", "description": "\u{0}" }), "input.description"),
    ] {
        let reply = member.query_with(CREATE, json!({ "input": input })).await;
        reply.assert_failed("BAD_USER_INPUT");
        assert_eq!(reply.body["errors"][0]["extensions"]["field"], field, "{input}");
    }
    let id: String = app.database.value("SELECT max(id::text) FROM app.projects").await;
    let null_name = json!({ "input": { "id": id, "name": null } });
    member.query_with(UPDATE, null_name).await.assert_failed("BAD_USER_INPUT");
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test]
async fn a_project_of_another_organization_is_not_found() {
    let app = App::start().await;
    let foreign: String = app
        .database
        .value("SELECT p.id::text FROM app.projects p JOIN app.organizations o ON o.id = organization_id WHERE slug = 'globex' LIMIT 1")
        .await;
    let before = app.database.fingerprint().await;
    let owner = app.user("acme-owner");
    let mut responses = Vec::new();
    for id in [foreign.as_str(), "67e55044-10b1-426f-9247-bb680e5fe0c8", "not a uuid", ""] {
        let update = json!({ "input": { "id": id, "name": "stolen" } });
        owner.query_with(UPDATE, update).await.assert_failed("NOT_FOUND");
        let reply = owner.query_with(DELETE, json!({ "id": id })).await;
        reply.assert_failed("NOT_FOUND");
        responses.push(reply.text);
        let data = owner
            .query_with(
                "query ($id: ID!) { node(id: $id) { id } nodes(ids: [$id, $id]) { id } organization { project(id: $id) { id } member(id: $id) { id } } }",
                json!({ "id": id }),
            )
            .await
            .data();
        assert_eq!(
            data,
            json!({ "node": null, "nodes": [null, null], "organization": { "project": null, "member": null } })
        );
    }
    responses.dedup();
    assert_eq!(responses.len(), 1, "{responses:?}");
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_limit_holds_under_concurrent_creation() {
    let app = App::start().await;
    app.database.execute("DELETE FROM app.projects").await;
    let owner = app.user("globex-owner");
    let creations =
        (0..50).map(|n| {
            let owner = owner.clone();
            async move {
                owner.query_with(CREATE, json!({ "input": { "name": format!("p{n}") } })).await
            }
        });
    let replies = futures_util::future::join_all(creations).await;
    let made = replies.iter().filter(|reply| reply.codes().is_empty()).count();
    assert_eq!(made, 3);
    for reply in replies.iter().filter(|reply| !reply.codes().is_empty()) {
        reply.assert_failed("PLAN_LIMIT_EXCEEDED");
        let extensions = &reply.body["errors"][0]["extensions"];
        assert_eq!((&extensions["feature"], &extensions["limit"]), (&json!("projects"), &json!(3)));
    }
    let count = |sql: &'static str| app.database.value::<i64>(sql);
    assert_eq!(count("SELECT count(*) FROM app.projects").await, 3);
    let recorded =
        "SELECT count(*) FROM audit.audit_logs a JOIN app.projects p ON p.id = a.resource_id";
    assert_eq!(count(recorded).await, 3);
}

#[tokio::test]
async fn a_changed_limit_takes_effect_at_once() {
    let app = App::start().await;
    let owner = app.user("globex-owner");
    let create = || owner.query_with(CREATE, json!({ "input": { "name": "x" } }));
    create().await.data();
    create().await.assert_failed("PLAN_LIMIT_EXCEEDED");
    let set = |value: &str| {
        format!(
            "UPDATE billing.plan_features SET {value} WHERE plan = 'free' AND feature = 'projects'"
        )
    };
    app.database.execute(&set("limit_value = 4")).await;
    create().await.data();
    app.database.execute(&set("limit_value = 2")).await;
    create().await.assert_failed("PLAN_LIMIT_EXCEEDED");
    let query = "{ organization { entitlements { feature { key } enabled limit used remaining overLimit resetsAt } } }";
    let entitlements = owner.data(query).await["organization"]["entitlements"].clone();
    assert_eq!(
        entitlements[0],
        json!({ "feature": { "key": "projects" }, "enabled": true, "limit": 2, "used": 4, "remaining": 0, "overLimit": true, "resetsAt": null })
    );
    app.database.execute(&set("limit_value = NULL")).await;
    create().await.data();
    app.database.execute(&set("enabled = false")).await;
    create().await.assert_failed("PLAN_LIMIT_EXCEEDED");
    app.database
        .execute("DELETE FROM billing.plan_features WHERE plan = 'free' AND feature = 'projects'")
        .await;
    create().await.assert_failed("PLAN_LIMIT_EXCEEDED");
    assert_eq!(owner.data(query).await["organization"]["entitlements"][0]["enabled"], json!(false));
}

#[tokio::test]
async fn an_ended_subscription_has_the_limits_of_the_default_plan() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let create = || owner.query_with(CREATE, json!({ "input": { "name": "x" } }));
    create().await.data();
    app.database.execute("UPDATE billing.organization_billing SET status = 'canceled'").await;
    create().await.assert_failed("PLAN_LIMIT_EXCEEDED");
    let data =
        owner.data("{ organization { plan { key } billing { plan { key } status } } }").await;
    assert_eq!(
        data["organization"],
        json!({ "plan": { "key": "free" }, "billing": { "plan": { "key": "pro" }, "status": "CANCELED" } })
    );
}
