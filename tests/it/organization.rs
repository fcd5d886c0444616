//! Organizations: founded in one transaction, renamed, and their slugs.

use serde_json::json;

use crate::support::App;

const CREATE: &str = "mutation ($name: String!, $slug: String!) { createOrganization(input: { name: $name, slug: $slug }) {
    organization { id name slug viewerRole plan { plan } members { nodes { user { id } role } } projects { totalCount }
                   auditLogs { nodes { action metadata actor { id } } } billing { status trialEndsAt } } } }";

#[tokio::test]
async fn whoever_founds_an_organization_is_in_it_at_once() {
    let app = App::start().await;
    let founder = app.stranger("founder");
    let reply = founder.query_with(CREATE, json!({ "name": " Initech ", "slug": "initech" })).await;
    let organization = reply.data()["createOrganization"]["organization"].clone();
    let viewer =
        founder.data("{ viewer { id memberships { slug role } } }").await["viewer"].clone();
    assert_eq!(viewer["memberships"], json!([{ "slug": "initech", "role": "OWNER" }]));
    assert_eq!(organization["name"], "Initech");
    assert_eq!(organization["viewerRole"], "OWNER");
    assert_eq!(organization["plan"], json!({ "plan": "free" }));
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
async fn one_founds_another_from_within_an_organization() {
    let app = App::start().await;
    let viewer = app.person("acme-viewer");
    let data =
        viewer.query_with(CREATE, json!({ "name": "Own", "slug": "own-thing" })).await.data();
    let organization = &data["createOrganization"]["organization"];
    assert_eq!(organization["viewerRole"], "OWNER");
    assert_eq!(organization["members"]["nodes"].as_array().unwrap().len(), 1, "not acme's members");
    let data = viewer.data("{ organization { slug viewerRole } }").await;
    assert_eq!(data["organization"], json!({ "slug": "acme", "viewerRole": "VIEWER" }));
}

#[tokio::test]
async fn a_slug_is_refused_when_it_is_bad_taken_or_was_taken_lately() {
    let app = App::start().await;
    let founder = app.stranger("founder");
    founder.data("{ viewer { id } }").await;
    app.database
        .execute(
            "INSERT INTO app.organization_slugs (slug, organization_id, retired_at) VALUES
                 ('lately', gen_random_uuid(), now() - interval '89 days'),
                 ('long-ago', gen_random_uuid(), now() - interval '91 days')",
        )
        .await;
    let before = app.database.fingerprint().await;
    for slug in ["acme", "globex", "lately"] {
        let reply = founder.query_with(CREATE, json!({ "name": "x", "slug": slug })).await;
        reply.assert_failed("CONFLICT");
    }
    for slug in [
        "",
        "a",
        "A-b",
        "a--b",
        "-ab",
        "graphql",
        "admin",
        "a_b",
        "67e55044-10b1-426f-9247-bb680e5fe0c8",
    ] {
        let reply = founder.query_with(CREATE, json!({ "name": "x", "slug": slug })).await;
        reply.assert_failed("BAD_USER_INPUT");
        assert_eq!(reply.body["errors"][0]["extensions"]["field"], "input.slug");
    }
    assert_eq!(app.database.fingerprint().await, before);
    founder.query_with(CREATE, json!({ "name": "x", "slug": "long-ago" })).await.data();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slug_goes_to_one_of_those_who_want_it_at_once() {
    let app = App::start().await;
    let founders = (0..10).map(|n| {
        let founder = app.stranger(&format!("founder-{n}"));
        async move { founder.query_with(CREATE, json!({ "name": "x", "slug": "wanted" })).await }
    });
    let replies = futures_util::future::join_all(founders).await;
    let founded = replies.iter().filter(|reply| reply.codes().is_empty()).count();
    assert_eq!(founded, 1);
    for reply in replies.iter().filter(|reply| !reply.codes().is_empty()) {
        reply.assert_failed("CONFLICT");
    }
    let count: i64 = app.database.value("SELECT count(*) FROM app.organizations").await;
    assert_eq!(count, 3);
}

#[tokio::test]
async fn an_organization_is_renamed_by_its_admins() {
    let app = App::start().await;
    let rename = "mutation { updateOrganization(input: { name: \"Acme Ltd\" }) { organization { name slug } } }";
    app.person("acme-member").query(rename).await.assert_failed("FORBIDDEN");
    let admin = app.person("acme-admin");
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
        app.person("globex-owner").data("{ organization { name } }").await["organization"]["name"],
        "Globex"
    );
}

#[tokio::test]
async fn founding_tolerates_nothing_beside_it() {
    let app = App::start().await;
    let before = app.database.fingerprint().await;
    let reply = app
        .person("acme-owner")
        .query(
            "mutation { createOrganization(input: { name: \"x\", slug: \"xx\" }) { organization { id } }
                        createProject(input: { name: \"x\" }) { project { id } } }",
        )
        .await;
    reply.assert_refused(400, "GRAPHQL_VALIDATION_FAILED");
    assert_eq!(app.database.fingerprint().await, before);
}
