//! Organizations: created in one transaction, renamed, and their slugs.

use serde_json::json;

use crate::support::{App, app};

const CREATE: &str = "mutation ($name: String!, $slug: String!) { createOrganization(input: { name: $name, slug: $slug }) {
    organization { id name slug viewerRole plan { key } members { nodes { user { id } role } } projects { totalCount }
                   auditLogs { nodes { action metadata actor { id } } } billing { status trialEndsAt } } } }";

#[tokio::test]
async fn the_creator_of_an_organization_is_a_member_at_once() {
    let app = App::start().await;
    let founder = app.outsider("founder");
    let reply = founder.query_with(CREATE, json!({ "name": " Initech ", "slug": "initech" })).await;
    let organization = reply.data()["createOrganization"]["organization"].clone();
    let viewer =
        founder.data("{ viewer { id memberships { slug role } } }").await["viewer"].clone();
    assert_eq!(viewer["memberships"], json!([{ "slug": "initech", "role": "OWNER" }]));
    assert_eq!(organization["name"], "Initech");
    assert_eq!(organization["viewerRole"], "OWNER");
    assert_eq!(organization["plan"], json!({ "key": "free" }));
    assert_eq!(organization["billing"], json!({ "status": "ACTIVE", "trialEndsAt": null }));
    assert_eq!(
        organization["members"]["nodes"],
        json!([{ "user": { "id": viewer["id"] }, "role": "OWNER" }])
    );
    assert_eq!(organization["projects"]["totalCount"], 0);
    assert_eq!(
        organization["auditLogs"]["nodes"],
        json!([{ "action": "organization.created", "metadata": { "name": "Initech", "slug": "initech" },
                 "actor": { "id": viewer["id"] } }])
    );
}

#[tokio::test]
async fn an_organization_can_be_created_from_within_another() {
    let app = App::start().await;
    let viewer = app.user("acme-viewer");
    let data =
        viewer.query_with(CREATE, json!({ "name": "Own", "slug": "own-thing" })).await.data();
    let organization = &data["createOrganization"]["organization"];
    assert_eq!(organization["viewerRole"], "OWNER");
    assert_eq!(organization["members"]["nodes"].as_array().unwrap().len(), 1, "not acme's members");
    let data = viewer.data("{ organization { slug viewerRole } }").await;
    assert_eq!(data["organization"], json!({ "slug": "acme", "viewerRole": "VIEWER" }));
}

#[tokio::test]
async fn an_invalid_taken_or_retired_slug_is_rejected() {
    let app = App::start().await;
    let founder = app.outsider("founder");
    founder.data("{ viewer { id } }").await;
    app.database
        .execute(
            "INSERT INTO app.organization_slugs (slug, organization_id, retired_at) VALUES
                 ('lately', gen_random_uuid(), now() - interval '89 days'),
                 ('long-ago', gen_random_uuid(), now() - interval '91 days')",
        )
        .await;
    let before = app.database.fingerprint().await;
    for slug in ["acme", "globex", "lately", "graphql", "admin"] {
        let reply = founder.query_with(CREATE, json!({ "name": "x", "slug": slug })).await;
        reply.assert_failed("CONFLICT");
    }
    let long = "a".repeat(49);
    for slug in [
        "",
        "a",
        &long,
        "A-b",
        "a--b",
        "-ab",
        "ab-",
        "a_b",
        "a b",
        "ä1",
        "initech\n",
        "67e55044-10b1-426f-9247-bb680e5fe0c8",
        "67e5504410b1426f9247bb680e5fe0c8",
    ] {
        let reply = founder.query_with(CREATE, json!({ "name": "x", "slug": slug })).await;
        reply.assert_failed("BAD_USER_INPUT");
        assert_eq!(reply.body["errors"][0]["extensions"]["field"], "input.slug");
    }
    assert_eq!(app.database.fingerprint().await, before);
    founder.query_with(CREATE, json!({ "name": "x", "slug": "long-ago" })).await.data();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_requests_for_a_slug_have_one_winner() {
    let app = App::start().await;
    let founders = (0..10).map(|n| {
        let founder = app.outsider(&format!("founder-{n}"));
        async move { founder.query_with(CREATE, json!({ "name": "x", "slug": "wanted" })).await }
    });
    let replies = futures_util::future::join_all(founders).await;
    let created = replies.iter().filter(|reply| reply.codes().is_empty()).count();
    assert_eq!(created, 1);
    for reply in replies.iter().filter(|reply| !reply.codes().is_empty()) {
        reply.assert_failed("CONFLICT");
    }
    let count: i64 = app.database.value("SELECT count(*) FROM app.organizations").await;
    assert_eq!(count, 3);
}

#[tokio::test]
async fn admins_can_rename_an_organization() {
    let app = App::start().await;
    let rename = "mutation { updateOrganization(input: { name: \"Acme Ltd\" }) { organization { name slug } } }";
    app.user("acme-member").query(rename).await.assert_failed("FORBIDDEN");
    let admin = app.user("acme-admin");
    for _ in 0..2 {
        let data = admin.data(rename).await;
        assert_eq!(
            data["updateOrganization"]["organization"],
            json!({ "name": "Acme Ltd", "slug": "acme" })
        );
    }
    let query = "{ organization { auditLogs(filter: { action: \"organization.updated\" }) { nodes { metadata } } } }";
    assert_eq!(
        admin.data(query).await["organization"]["auditLogs"]["nodes"],
        json!([{ "metadata": { "old_name": "Acme", "name": "Acme Ltd" } }])
    );
    assert_eq!(
        app.user("globex-owner").data("{ organization { name } }").await["organization"]["name"],
        "Globex"
    );
}

#[tokio::test]
async fn create_organization_must_be_the_only_field() {
    let app = App::start().await;
    let before = app.database.fingerprint().await;
    let reply = app
        .user("acme-owner")
        .query(
            "mutation { createOrganization(input: { name: \"x\", slug: \"xx\" }) { organization { id } }
                        createProject(input: { name: \"x\" }) { project { id } } }",
        )
        .await;
    reply.assert_refused(400, "GRAPHQL_VALIDATION_FAILED");
    assert_eq!(app.database.fingerprint().await, before);
}

const RESLUG: &str = "mutation ($slug: String!) { updateOrganization(input: { slug: $slug }) { organization { slug } } }";

#[tokio::test]
async fn members_can_use_the_former_slug_after_a_change() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    app.user("acme-admin")
        .query_with(RESLUG, json!({ "slug": "acme-2" }))
        .await
        .assert_failed("FORBIDDEN");
    owner.query_with(RESLUG, json!({ "slug": "globex" })).await.assert_failed("CONFLICT");
    owner.query_with(RESLUG, json!({ "slug": "Bad Slug" })).await.assert_failed("BAD_USER_INPUT");
    let data = owner.query_with(RESLUG, json!({ "slug": "acme-2" })).await.data();
    assert_eq!(data["updateOrganization"]["organization"]["slug"], "acme-2");

    let reply = app.user("acme-viewer").query("{ organization { slug } }").await;
    assert_eq!(reply.body["extensions"]["organizationSlug"], "acme-2");
    assert_eq!(reply.data()["organization"]["slug"], "acme-2");
    app.user("globex-owner")
        .query_with(RESLUG, json!({ "slug": "acme" }))
        .await
        .assert_failed("CONFLICT");
    // An organization can take back its own former slug.
    owner.query_with(RESLUG, json!({ "slug": "acme" })).await.data();
    assert!(
        app.user("acme-viewer")
            .query("{ organization { slug } }")
            .await
            .body
            .get("extensions")
            .is_none()
    );
    let logs = owner.data("{ organization { auditLogs(first: 2) { nodes { metadata } } } }").await;
    assert_eq!(
        logs["organization"]["auditLogs"]["nodes"],
        json!([{ "metadata": { "old_slug": "acme-2", "slug": "acme" } }, { "metadata": { "old_slug": "acme", "slug": "acme-2" } }])
    );
}

const DELETE: &str = "mutation ($slug: String!) { deleteOrganization(input: { slug: $slug }) { organization { id name slug } } }";

/// Moves the retirement of slugs back by this number of days. Slugs in use stay as they are.
async fn retired_days_ago(app: &App, days: i64) {
    let later = format!(
        "UPDATE app.organization_slugs SET retired_at = retired_at - interval '{days} days'"
    );
    app.database.execute(&later).await;
}

#[tokio::test]
async fn a_former_slug_is_free_after_ninety_days() {
    let app = App::start().await;
    app.user("acme-owner").query_with(RESLUG, json!({ "slug": "acme-2" })).await.data();
    let founder = app.outsider("founder");
    let found = || founder.query_with(CREATE, json!({ "name": "x", "slug": "acme" }));
    retired_days_ago(&app, 89).await;
    found().await.assert_failed("CONFLICT");
    retired_days_ago(&app, 2).await;
    found().await.data();
    app.user("acme-owner").query("{ organization { id } }").await.assert_refused(404, "NOT_FOUND");
    // The deletion of an organization reserves its former slugs again.
    let deleting = app.client(Some("acme"), Some(app::token("founder")));
    deleting.query_with(RESLUG, json!({ "slug": "acme-3" })).await.data();
    retired_days_ago(&app, 89).await;
    let deleting = app.client(Some("acme-3"), Some(app::token("founder")));
    deleting.query_with(DELETE, json!({ "slug": "acme-3" })).await.data();
    retired_days_ago(&app, 2).await;
    let other = app.outsider("other");
    other
        .query_with(CREATE, json!({ "name": "x", "slug": "acme" }))
        .await
        .assert_failed("CONFLICT");
}

#[tokio::test]
async fn the_number_of_reserved_slugs_is_limited() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let rename = |from: usize| {
        let fields = (from..from + 10).map(|n| {
            format!("f{n}: updateOrganization(input: {{ slug: \"hoard-{n}\" }}) {{ organization {{ slug }} }}")
        });
        format!("mutation {{ {} }}", fields.collect::<Vec<_>>().join(" "))
    };
    owner.query(&rename(0)).await.data();
    owner.query(&rename(10)).await.data();
    let before = app.database.fingerprint().await;
    owner.query(&rename(20)).await.assert_failed("CONFLICT");
    assert_eq!(app.database.fingerprint().await, before);
    // Creating and deleting organizations does not avoid the limit.
    let elsewhere = app.client(None, Some(app::token("acme-owner")));
    for _ in 0..2 {
        let slug = format!("fresh-{}", uuid::Uuid::new_v4().simple());
        let reply = elsewhere.query_with(CREATE, json!({ "name": "x", "slug": &slug[..20] })).await;
        if reply.codes() == ["CONFLICT"] {
            return;
        }
        let own = app.client(Some(&slug[..20]), Some(app::token("acme-owner")));
        own.query_with(DELETE, json!({ "slug": &slug[..20] })).await.data();
    }
    panic!("the limit of reserved slugs was not reached");
}

#[tokio::test]
async fn a_deleted_organization_keeps_its_audit_log_and_reserves_its_slug() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let before = app.database.fingerprint().await;
    app.user("acme-admin")
        .query_with(DELETE, json!({ "slug": "acme" }))
        .await
        .assert_failed("FORBIDDEN");
    owner.query_with(DELETE, json!({ "slug": "Acme" })).await.assert_failed("BAD_USER_INPUT");
    assert_eq!(app.database.fingerprint().await, before);
    let live = "UPDATE billing.organization_billing SET stripe_subscription_id = 'sub_1', status =";
    app.database.execute(&format!("{live} 'past_due' WHERE plan = 'pro'")).await;
    owner.query_with(DELETE, json!({ "slug": "acme" })).await.assert_failed("CONFLICT");
    app.database.execute(&format!("{live} 'canceled' WHERE plan = 'pro'")).await;

    let data = owner.query_with(DELETE, json!({ "slug": "acme" })).await.data();
    assert_eq!(data["deleteOrganization"]["organization"]["name"], "Acme");
    owner.query("{ organization { id } }").await.assert_refused(404, "NOT_FOUND");
    assert_eq!(owner.query("{ organization { id } }").await.status, 404);
    let left = |table: &str| {
        let sql = format!(
            "SELECT count(*) FROM {table} WHERE organization_id = '00000000-0000-4000-8000-00000000000a'"
        );
        let database = app.database.clone();
        async move { database.value::<i64>(&sql).await }
    };
    for table in ["app.projects", "auth.organization_members", "billing.organization_billing"] {
        assert_eq!(left(table).await, 0, "{table}");
    }
    assert_eq!(left("audit.audit_logs").await, 5);
    let founder = app.outsider("founder");
    founder
        .query_with(CREATE, json!({ "name": "x", "slug": "acme" }))
        .await
        .assert_failed("CONFLICT");
    retired_days_ago(&app, 89).await;
    founder
        .query_with(CREATE, json!({ "name": "x", "slug": "acme" }))
        .await
        .assert_failed("CONFLICT");
    retired_days_ago(&app, 2).await;
    founder.query_with(CREATE, json!({ "name": "x", "slug": "acme" })).await.data();
    app.user("globex-owner").data("{ organization { projects { totalCount } } }").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_number_of_organizations_that_a_user_creates_is_limited() {
    let app = App::start().await;
    let founder = app.outsider("founder");
    let foundings = (0..8).map(|n| {
        let founder = founder.clone();
        async move {
            founder.query_with(CREATE, json!({ "name": "x", "slug": format!("org-{n}") })).await
        }
    });
    let replies = futures_util::future::join_all(foundings).await;
    assert_eq!(replies.iter().filter(|reply| reply.codes().is_empty()).count(), 3);
    for reply in replies.iter().filter(|reply| !reply.codes().is_empty()) {
        reply.assert_failed("CONFLICT");
    }
}
