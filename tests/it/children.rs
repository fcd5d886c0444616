//! Pages of children under many parents: as pages of any list, with a number of statements that
//! does not depend on the number of parents.

use serde_json::{Value, json};

use crate::{
    loaders::{globex_with_60_users, statements},
    support::{App, Client},
};

const PROJECTS: &str = "query ($first: Int, $after: String, $last: Int, $before: String) {
    organization { members(first: 4) { nodes { user { id }
        projects(first: $first, after: $after, last: $last, before: $before) {
            totalCount nodes { name } edges { cursor }
            pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } } } }";

/// Acme, whose owner created 25 projects, several at the same instant, whose admin created 3, and
/// whose other members created none. Globex has projects of the same users.
async fn acme() -> App {
    let app = App::start().await;
    app.database
        .execute(
            "DELETE FROM app.projects;
             INSERT INTO app.projects (organization_id, name, created_by, created_at)
             SELECT o.id, o.slug || m.role || n, m.user_id,
                    timestamptz '2026-01-01' + interval '1 microsecond' * (n / 3)
             FROM app.organizations o, generate_series(1, 25) n, auth.organization_members m
             JOIN app.organizations acme ON acme.id = m.organization_id AND acme.slug = 'acme'
             WHERE m.role = 'owner' OR (m.role = 'admin' AND n <= 3)",
        )
        .await;
    app
}

/// The page of the projects of the member with this role.
async fn page(client: &Client, user: &str, variables: Value) -> Value {
    let data = client.query_with(PROJECTS, variables).await.data();
    let members = data["organization"]["members"]["nodes"].as_array().unwrap().clone();
    let member = members.into_iter().find(|member| member["user"]["id"] == user);
    member.unwrap()["projects"].clone()
}

fn names(page: &Value) -> Vec<String> {
    let nodes = page["nodes"].as_array().unwrap().iter();
    nodes.map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

async fn user(app: &App, role: &str) -> String {
    let sql = format!(
        "SELECT m.user_id::text FROM auth.organization_members m
         JOIN app.organizations o ON o.id = m.organization_id AND o.slug = 'acme' WHERE m.role = '{role}'"
    );
    app.database.value(&sql).await
}

async fn created_by(app: &App, user: &str) -> Vec<String> {
    let sql = format!(
        "SELECT coalesce(array_agg(p.name ORDER BY p.created_at DESC, p.id DESC), '{{}}') FROM app.projects p
         JOIN app.organizations o ON o.id = p.organization_id AND o.slug = 'acme'
         WHERE p.created_by = '{user}'"
    );
    app.database.value(&sql).await
}

#[tokio::test]
async fn pages_of_children_from_either_end_cover_the_list_once() {
    let app = acme().await;
    let client = app.user("acme-viewer");
    let owner = user(&app, "owner").await;
    let expected = created_by(&app, &owner).await;
    assert_eq!(expected.len(), 25);
    let mut forward = Vec::new();
    let mut after = Value::Null;
    loop {
        let page = page(&client, &owner, json!({ "first": 4, "after": after })).await;
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
        let page = page(&client, &owner, json!({ "last": 7, "before": before })).await;
        backward.splice(0..0, names(&page));
        if page["pageInfo"]["hasPreviousPage"] == json!(false) {
            break;
        }
        before = page["pageInfo"]["startCursor"].clone();
    }
    assert_eq!(backward, expected);

    // The part between two cursors, from both ends.
    let all = page(&client, &owner, json!({ "first": 25 })).await;
    let cursor = |index: usize| all["edges"][index]["cursor"].clone();
    for (end, size, names_of, previous, next) in [
        ("first", 4, 6..10, true, true),
        ("last", 4, 12..16, true, true),
        ("first", 30, 6..16, true, false),
        ("last", 30, 6..16, false, true),
    ] {
        let window = json!({ end: size, "after": cursor(5), "before": cursor(16) });
        let page = page(&client, &owner, window).await;
        assert_eq!(names(&page), expected[names_of], "{end}: {size}");
        assert_eq!(page["totalCount"], 25);
        assert_eq!(page["pageInfo"]["hasPreviousPage"], json!(previous), "{end}: {size}");
        assert_eq!(page["pageInfo"]["hasNextPage"], json!(next), "{end}: {size}");
    }
    let rest = page(&client, &owner, json!({ "last": 4, "after": cursor(19) })).await;
    assert_eq!(names(&rest), expected[21..]);
    assert_eq!(rest["pageInfo"]["hasNextPage"], json!(false));
}

#[tokio::test]
async fn each_parent_has_its_own_page_and_total() {
    let app = acme().await;
    let client = app.user("acme-viewer");
    for (role, total) in [("owner", 25), ("admin", 3), ("member", 0), ("viewer", 0)] {
        let user = user(&app, role).await;
        let page = page(&client, &user, json!({ "first": 2 })).await;
        assert_eq!(page["totalCount"], total, "{role}");
        let expected = created_by(&app, &user).await;
        assert_eq!(names(&page), expected[..expected.len().min(2)], "{role}");
        assert_eq!(page["pageInfo"]["hasNextPage"], json!(total > 2), "{role}");
        assert!(names(&page).iter().all(|name| name.starts_with("acme")), "{role}");
    }
}

#[tokio::test]
async fn children_have_the_limits_and_errors_of_other_lists() {
    let app = acme().await;
    let client = app.user("acme-viewer");
    let owner = user(&app, "owner").await;
    assert_eq!(names(&page(&client, &owner, json!({})).await).len(), 20);
    assert!(names(&page(&client, &owner, json!({ "first": 0 })).await).is_empty());
    for (variables, field) in [
        (json!({ "first": 101 }), "first"),
        (json!({ "first": 1, "last": 1 }), "last"),
        (json!({ "after": "nonsense" }), "after"),
    ] {
        let reply = client.query_with(PROJECTS, variables.clone()).await;
        let codes = reply.codes();
        assert!(
            !codes.is_empty() && codes.iter().all(|code| *code == "BAD_USER_INPUT"),
            "{variables}: {codes:?}"
        );
        assert_eq!(reply.body["errors"][0]["extensions"]["field"], field);
    }
    // A page of pages: 100 projects for each of 100 members.
    let deep = "{ organization { members(first: 100) { nodes { projects(first: 100) { nodes { id } } } } } }";
    client.query(deep).await.assert_refused(400, "QUERY_TOO_COMPLEX");
}

#[tokio::test]
async fn one_statement_reads_the_children_of_all_parents() {
    let app = globex_with_60_users().await;
    let list = "query ($size: Int) { organization { members(first: $size) { nodes {
        projects(first: 2) { totalCount nodes { name createdBy { name } } }
        last: projects(last: 1) { nodes { id auditLogs(first: 1) { nodes { id } } } } } } } }";
    for size in [1, 50] {
        let (count, data) = statements(&app, list, json!({ "size": size })).await;
        let members = data["organization"]["members"]["nodes"].as_array().unwrap();
        assert_eq!(members.len(), size);
        let with_projects =
            members.iter().filter(|member| member["projects"]["totalCount"] == 1).count();
        assert_eq!(with_projects, size, "{data}");
        // Opening; members; projects, last projects, totals; creators; audit logs.
        assert_eq!(count, 7, "with {size} parents");
    }
}

#[tokio::test]
async fn the_audit_log_of_a_project_is_for_admins_and_about_this_project_alone() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let create = "mutation { createProject(input: { name: \"Skates\" }) { project { id } } }";
    let id = owner.data(create).await["createProject"]["project"]["id"].clone();
    let rename = "mutation ($id: ID!) { updateProject(input: { id: $id, name: \"Rocket skates\" }) { project { id } } }";
    owner.query_with(rename, json!({ "id": id })).await.data();
    let log = "query ($id: ID!) { organization { project(id: $id) {
        name auditLogs { nodes { action resourceId } pageInfo { hasNextPage } } } } }";
    for reader in ["acme-owner", "acme-admin"] {
        let data = app.user(reader).query_with(log, json!({ "id": id })).await.data();
        let entries = &data["organization"]["project"]["auditLogs"]["nodes"];
        let entry = |action: &str| json!({ "action": action, "resourceId": id });
        assert_eq!(entries, &json!([entry("project.updated"), entry("project.created")]));
    }
    let reply = app.user("acme-member").query_with(log, json!({ "id": id })).await;
    assert_eq!(reply.codes(), ["FORBIDDEN"]);
    assert_eq!(reply.body["errors"][0]["extensions"]["permission"], "AUDIT_LOG_READ");
    let project = &reply.body["data"]["organization"]["project"];
    assert_eq!(project, &json!({ "name": "Rocket skates", "auditLogs": null }));
    // An entry of another organization about the same id.
    app.database
        .execute(&format!(
            "INSERT INTO audit.audit_logs (organization_id, action, resource_type, resource_id)
             SELECT id, 'project.deleted', 'project', {} FROM app.organizations WHERE slug = 'globex'",
            id.to_string().replace('"', "'")
        ))
        .await;
    let data = owner.query_with(log, json!({ "id": id })).await.data();
    let entries = data["organization"]["project"]["auditLogs"]["nodes"].as_array().unwrap().len();
    assert_eq!(entries, 2);
}

#[tokio::test]
async fn a_member_who_has_left_sees_no_children() {
    let app = acme().await;
    let organization = app.user("acme-admin").data("{ organization { id } }").await;
    let leave = "mutation ($id: ID!) { leaveOrganization(input: { organizationId: $id }) {
        member { role projects { nodes { name } } } } }";
    let variables = json!({ "id": organization["organization"]["id"] });
    let data = app.user("acme-admin").query_with(leave, variables).await.data();
    assert_eq!(data["leaveOrganization"]["member"], json!({ "role": "ADMIN", "projects": null }));
}
