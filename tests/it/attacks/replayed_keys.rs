//! A response stored for an `Idempotency-Key` is returned only to its caller, and only while the
//! caller still has the permissions it needed. Repeating it is not free.

use serde_json::{Value, json};

use crate::support::{App, AppSettings, Client, Reply, app::token, database::Database};

const INVITE: &str =
    "mutation { inviteMember(input: { email: \"new@example.com\", role: MEMBER }) { link } }";
const ADMIN: &str = "00000000-0000-4000-8000-0000000000a2";
const TRANSFER: &str = "mutation ($id: ID!) {
    transferOwnership(input: { memberId: $id }) { member { id role } } }";

async fn repeat(client: &Client, body: &Value) -> Reply {
    Reply::of(client.post().header("idempotency-key", "key").json(body)).await
}

async fn set_role_in_acme(app: &App, user: &str, role: &str) {
    let sql = format!(
        "UPDATE auth.organization_members SET role = '{role}' WHERE user_id = '{user}'
         AND organization_id = '00000000-0000-4000-8000-00000000000a'"
    );
    app.database.execute(&sql).await;
}

#[track_caller]
fn assert_withheld(reply: &Reply) {
    reply.assert_refused(409, "IDEMPOTENCY_CONFLICT");
    assert!(reply.text.contains("a role that you no longer have"), "{reply:?}");
}

#[tokio::test]
async fn a_demoted_admin_does_not_see_an_invitation_link_again() {
    let app = App::start().await;
    let admin = app.user("acme-admin");
    let body = json!({ "query": INVITE });
    let first = repeat(&admin, &body).await;
    assert!(first.text.contains("token="), "{first:?}");
    for role in ["member", "viewer"] {
        set_role_in_acme(&app, ADMIN, role).await;
        let before = app.database.fingerprint().await;
        let reply = repeat(&admin, &body).await;
        assert_withheld(&reply);
        assert!(!reply.text.contains("token="), "{reply:?}");
        assert_eq!(app.database.fingerprint().await, before);
    }
    for role in ["admin", "owner"] {
        set_role_in_acme(&app, ADMIN, role).await;
        let reply = repeat(&admin, &body).await;
        assert!(reply.is_replay(), "{reply:?}");
        assert_eq!(reply.text, first.text);
    }
}

#[tokio::test]
async fn a_mutation_that_leads_elsewhere_reads_nothing_of_the_organization_it_names() {
    let app = App::start().await;
    let admin = app.user("acme-admin");
    let body = json!({ "query": "mutation {
        query { organization { auditLogs(first: 3) { nodes { action } } } }
        createOrganization(input: { name: \"Initech\", slug: \"initech\" }) { organization { slug } } }" });
    // All of it is in the new organization, which does not exist yet when the query runs.
    let first = repeat(&admin, &body).await;
    assert_eq!(first.codes(), ["NOT_FOUND"], "{first:?}");
    let data = &first.body["data"];
    assert!(data["query"]["organization"].is_null(), "{first:?}");
    assert_eq!(data["createOrganization"]["organization"]["slug"], "initech", "{first:?}");
    assert!(repeat(&admin, &body).await.is_replay());
    set_role_in_acme(&app, ADMIN, "member").await;
    assert_withheld(&repeat(&admin, &body).await);
}

#[tokio::test]
async fn a_creator_who_left_does_not_see_the_organization_again() {
    let app = App::start().await;
    let founder = app.outsider("founder");
    let body = json!({ "query": "mutation {
        createOrganization(input: { name: \"Initech\", slug: \"initech\" }) { organization { id } }
        query { organization { billing { plan { key } } } } }" });
    let first = repeat(&founder, &body).await;
    assert!(first.body.get("errors").is_none(), "{first:?}");
    assert!(repeat(&founder, &body).await.is_replay());
    let membership = "organization_id = (SELECT id FROM app.organizations WHERE slug = 'initech')";
    let sql = format!("UPDATE auth.organization_members SET role = 'member' WHERE {membership}");
    app.database.execute(&sql).await;
    assert_withheld(&repeat(&founder, &body).await);
    let sql = format!("DELETE FROM auth.organization_members WHERE {membership}");
    app.database.execute(&sql).await;
    assert_withheld(&repeat(&founder, &body).await);
}

#[tokio::test]
async fn a_former_owner_can_repeat_a_transfer_of_ownership() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let members = owner.data("{ organization { members { nodes { id role } } } }").await;
    let members = members["organization"]["members"]["nodes"].as_array().unwrap().clone();
    let heir = members.iter().find(|member| member["role"] == "ADMIN").unwrap();
    let body = json!({ "query": TRANSFER, "variables": { "id": heir["id"] } });
    let first = repeat(&owner, &body).await;
    assert!(first.body.get("errors").is_none(), "{first:?}");
    let again = repeat(&owner, &body).await;
    assert!(again.is_replay(), "{again:?}");
    assert_eq!(again.text, first.text);
}

#[tokio::test]
async fn another_user_never_gets_a_stored_response() {
    let app = App::start().await;
    let body = json!({ "query": INVITE });
    repeat(&app.user("acme-admin"), &body).await.data();
    let reply = repeat(&app.user("acme-owner"), &body).await;
    assert!(!reply.is_replay(), "{reply:?}");
    assert!(!reply.text.contains("token="), "{reply:?}");
    let elsewhere = app.client(Some("globex"), Some(token("acme-admin")));
    repeat(&elsewhere, &body).await.assert_refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn each_repetition_counts_as_a_call() {
    let database = Database::create().await;
    database
        .execute(
            "UPDATE billing.plan_features SET limit_value = 3 WHERE plan = 'free' AND feature = 'api_calls_per_month'",
        )
        .await;
    let app = App::on(database, AppSettings::default()).await;
    let member = app.user("globex-member");
    let create = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
    let body = json!({ "query": create });
    for remaining in ["2", "1", "0"] {
        let reply = repeat(&member, &body).await;
        assert_eq!(reply.headers["ratelimit-remaining"], remaining, "{reply:?}");
        reply.data();
    }
    repeat(&member, &body).await.assert_refused(429, "PLAN_LIMIT_EXCEEDED");
}
