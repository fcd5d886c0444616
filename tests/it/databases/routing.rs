//! Requests find an organization in its dedicated database, and shared data in the control
//! database.

use std::time::Duration;

use serde_json::{Value, json};
use tenantry::tenancy::AccountLinking;

use super::acme_in_eu;
use crate::performance::{relay::Relay, traffic};
use crate::support::{
    App, AppSettings, Client, Reply,
    app::{token, token_with},
    billing_app::PRICES,
    dedicated::DedicatedDatabase,
    placement::{ACME, GLOBEX},
    stripe::{FakeStripe, WEBHOOK_SECRET, signature},
};

pub(super) const NAMES: &str =
    "{ organization { slug projects(first: 100) { nodes { name createdBy { name } } } } }";
const MEMBERSHIPS: &str = "{ viewer { memberships { slug name role } } }";
const INVITE: &str =
    "mutation { inviteMember(input: { email: \"new@example.com\", role: MEMBER }) { link } }";
const ACCEPT: &str = "mutation ($token: String!) { acceptInvitation(input: { token: $token }) {
    organization { slug viewerRole projects(first: 1) { totalCount } } member { user { email } } } }";

pub(super) async fn served() -> Option<(App, DedicatedDatabase)> {
    let (control, eu) = acme_in_eu().await?;
    let mut settings = AppSettings { dedicated: vec![eu.clone()], ..AppSettings::default() };
    settings.account_linking = AccountLinking::SameIssuer;
    Some((App::on(control, settings).await, eu))
}

pub(super) fn create(name: &str) -> String {
    format!(
        "mutation {{ createProject(input: {{ name: \"{name}\" }}) {{ project {{ name createdBy {{ name }} }} }} }}"
    )
}

fn guest(app: &App) -> Client {
    let claims =
        json!({ "sub": "new", "email": "new@example.com", "email_verified": true, "name": "Nora" });
    app.client(None, Some(token_with(&claims)))
}

fn slugs(data: &Value) -> Vec<&str> {
    let all = data["viewer"]["memberships"].as_array().unwrap();
    all.iter().map(|membership| membership["slug"].as_str().unwrap()).collect()
}

async fn invited(app: &App) -> String {
    let data = app.user("acme-admin").data(INVITE).await;
    let link = data["inviteMember"]["link"].as_str().unwrap();
    link.split_once("token=").unwrap().1.to_owned()
}

async fn keyed(client: &Client, key: &str, query: &str, variables: Value) -> Reply {
    let body = json!({ "query": query, "variables": variables });
    Reply::of(client.post().header("idempotency-key", key).json(&body)).await
}

/// Waits until directory sync has copied every change.
async fn wait_for_directory_sync(app: &App, eu: &DedicatedDatabase) {
    let left = "SELECT (SELECT count(*) FROM app.directory_changes) + (SELECT count(*) FROM auth.user_changes)";
    for _ in 0..300 {
        let of_both = [&app.database, &eu.database].map(|database| database.exactly::<i64>(left));
        if futures_util::future::join_all(of_both).await == [0, 0] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("changes are still pending");
}

#[tokio::test]
async fn an_organization_works_in_a_dedicated_database() {
    let Some((app, eu)) = served().await else { return };
    let owner = app.user("acme-owner");
    let made = owner.data(&create("There")).await;
    assert_eq!(made["createProject"]["project"]["createdBy"]["name"], "Olivia");
    let there = "SELECT count(*) FROM app.projects WHERE name = 'There'";
    assert_eq!(eu.database.exactly::<i64>(there).await, 1);
    assert_eq!(app.database.exactly::<i64>(there).await, 0);
    let claim = token_with(&json!({ "sub": "acme-owner", "org": ACME }));
    let by_claim = app.client(None, Some(claim)).data(NAMES).await;
    assert_eq!(by_claim, owner.data(NAMES).await);
    assert_eq!(by_claim["organization"]["projects"]["nodes"][0]["name"], "There");
    // Other organizations stay where they were, and isolation holds.
    let globex = app.user("globex-owner");
    assert_eq!(globex.data(NAMES).await["organization"]["slug"], "globex");
    app.client(Some("acme"), Some(token("globex-owner")))
        .query(NAMES)
        .await
        .assert_refused(404, "NOT_FOUND");
    let claim = token_with(&json!({ "sub": "acme-owner", "org": GLOBEX }));
    app.client(Some("acme"), Some(claim))
        .query(NAMES)
        .await
        .assert_refused(403, "ORGANIZATION_MISMATCH");
}

#[tokio::test]
async fn memberships_of_all_databases_are_listed() {
    let Some((app, eu)) = served().await else { return };
    let owner = app.user("acme-owner");
    assert_eq!(slugs(&owner.data(MEMBERSHIPS).await), ["acme"]);
    owner.data("mutation { createOrganization(input: { name: \"Second\", slug: \"second\" }) { organization { slug } } }").await;
    let outside = app.client(None, Some(token("acme-owner")));
    for client in [&owner, &outside, &app.client(Some("second"), Some(token("acme-owner")))] {
        assert_eq!(slugs(&client.data(MEMBERSHIPS).await), ["acme", "second"]);
    }
    let created = "SELECT count(*) FROM app.organizations WHERE slug = 'second'";
    assert_eq!(app.database.exactly::<i64>(created).await, 1);
    assert_eq!(eu.database.exactly::<i64>(created).await, 0);
}

#[tokio::test]
async fn an_invitation_leads_to_another_database() {
    let Some((app, eu)) = served().await else { return };
    let invitation = invited(&app).await;
    let guest = guest(&app);
    let variables = json!({ "token": invitation });
    let reply = keyed(&guest, "once", ACCEPT, variables.clone()).await;
    let replayed = keyed(&guest, "once", ACCEPT, variables).await;
    assert_eq!(replayed.headers["idempotency-replayed"], "true");
    let data = reply.data();
    assert_eq!(data, replayed.data());
    let accepted = &data["acceptInvitation"];
    assert_eq!(accepted["organization"]["viewerRole"], "MEMBER");
    assert_eq!(accepted["member"]["user"]["email"], "new@example.com");
    // The placement is known at once to any server.
    assert_eq!(slugs(&guest.data(MEMBERSHIPS).await), ["acme"]);
    let claims = json!({ "sub": "new", "email": "new@example.com", "email_verified": true });
    let inside = app.client(Some("acme"), Some(token_with(&claims)));
    assert_eq!(
        inside.data(&create("Nora's")).await["createProject"]["project"]["createdBy"]["name"],
        "Nora"
    );
    let known = "SELECT count(*) FROM auth.users WHERE email = 'new@example.com'";
    assert_eq!(eu.database.exactly::<i64>(known).await, 1);
    wait_for_directory_sync(&app, &eu).await;
    // A removed member loses access with the next request.
    let members = app
        .user("acme-owner")
        .data("{ organization { members { nodes { id user { email } } } } }")
        .await;
    let members = members["organization"]["members"]["nodes"].as_array().unwrap();
    let member =
        members.iter().find(|member| member["user"]["email"] == "new@example.com").unwrap();
    let remove = "mutation ($id: ID!) { removeMember(input: { id: $id }) { member { id } } }";
    app.user("acme-owner").query_with(remove, json!({ "id": member["id"] })).await.data();
    inside.query(NAMES).await.assert_refused(404, "NOT_FOUND");
    assert!(slugs(&guest.data(MEMBERSHIPS).await).is_empty());
}

#[tokio::test]
async fn slugs_are_unique_across_databases() {
    let Some((app, eu)) = served().await else { return };
    let owner = app.user("acme-owner");
    let rename = |slug: &str| {
        format!(
            "mutation {{ updateOrganization(input: {{ slug: \"{slug}\" }}) {{ organization {{ slug }} }} }}"
        )
    };
    owner.query(&rename("globex")).await.assert_failed("CONFLICT");
    owner.data(&rename("acme-eu")).await;
    assert_eq!(slugs(&owner.data(MEMBERSHIPS).await), ["acme-eu"]);
    let renamed = app.client(Some("acme-eu"), Some(token("acme-owner")));
    assert_eq!(renamed.data(NAMES).await["organization"]["slug"], "acme-eu");
    let response = owner.query(NAMES).await;
    assert_eq!(response.body["extensions"]["organizationSlug"], "acme-eu");
    for slug in ["acme", "acme-eu"] {
        app.user("globex-owner").query(&rename(slug)).await.assert_failed("CONFLICT");
    }
    let states = "SELECT array_agg(slug || ' ' || (retired_at IS NULL) ORDER BY slug) FROM app.organization_slugs WHERE slug LIKE 'acme%'";
    for database in [&app.database, &eu.database] {
        assert_eq!(database.exactly::<Vec<String>>(states).await, ["acme false", "acme-eu true"]);
    }
    let delete =
        "mutation { deleteOrganization(input: { slug: \"acme-eu\" }) { organization { slug } } }";
    renamed.data(delete).await;
    assert!(slugs(&app.client(None, Some(token("acme-owner"))).data(MEMBERSHIPS).await).is_empty());
    assert_eq!(app.database.exactly::<Vec<String>>(states).await, ["acme false", "acme-eu false"]);
    app.user("globex-owner").query(&rename("acme-eu")).await.assert_failed("CONFLICT");
}

#[tokio::test]
async fn changes_of_a_user_reach_every_database() {
    let Some((app, eu)) = served().await else { return };
    let invitation = invited(&app).await;
    guest(&app).query_with(ACCEPT, json!({ "token": invitation })).await.data();
    // A new address, and later a new identity: each request goes through the control database once.
    let moved = json!({ "sub": "new", "email": "nora@example.com", "email_verified": true });
    let client = app.client(Some("acme"), Some(token_with(&moved)));
    let email = "{ viewer { email } }";
    assert_eq!(client.data(email).await["viewer"]["email"], "nora@example.com");
    let second = json!({ "sub": "second", "email": "nora@example.com", "email_verified": true });
    let client = app.client(Some("acme"), Some(token_with(&second)));
    assert_eq!(client.data(email).await["viewer"]["email"], "nora@example.com");
    let known = "SELECT array_agg(subject || ' ' || u.email ORDER BY subject) FROM auth.identities i JOIN auth.users u ON u.id = i.user_id WHERE subject NOT LIKE 'acme%'";
    assert_eq!(
        eu.database.exactly::<Vec<String>>(known).await,
        ["new nora@example.com", "second nora@example.com"]
    );
    // The same in a database that the user has not visited since.
    let elsewhere = json!({ "sub": "new", "email": "again@example.com", "email_verified": true });
    app.client(None, Some(token_with(&elsewhere))).data(email).await;
    let known = "SELECT count(*) FROM auth.users WHERE email = 'again@example.com'";
    for _ in 0..100 {
        if eu.database.exactly::<i64>(known).await == 1 {
            return wait_for_directory_sync(&app, &eu).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no change of the address is pending");
}

#[tokio::test]
async fn a_request_to_another_database_takes_no_more_round_trips() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::between(folder.path(), &control.socket()).unwrap();
    let socket = Some(folder.path().to_owned());
    let settings =
        AppSettings { socket, max_connections: 1, dedicated: vec![eu], ..AppSettings::default() };
    let app = App::on(control, settings).await;
    let mut seen = Vec::new();
    for user in ["acme-owner", "globex-owner"] {
        let mut last = relay.take();
        for _ in 0..4 {
            relay.take();
            app.user(user).data("{ organization { projects(first: 9) { nodes { name } } } }").await;
            last = traffic(&relay, 4).await;
        }
        seen.push((last.statements, last.waits));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], (4, 2));
}

#[tokio::test]
async fn stripe_events_reach_another_database() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    let stripe = FakeStripe::start().await;
    stripe.add_customer("cus_1", Some(ACME));
    let mut settings = AppSettings { dedicated: vec![eu.clone()], ..AppSettings::default() };
    settings.areas.billing.stripe = Some(stripe.client());
    let app = App::on(control, settings).await;
    eu.database.execute(PRICES).await;
    let event = json!({ "id": "evt_1", "object": "event", "type": "customer.subscription.updated", "created": 1_900_000_000,
        "data": { "object": {
            "id": "sub_1", "object": "subscription", "customer": "cus_1", "status": "active",
            "metadata": { "organization_id": ACME }, "cancel_at_period_end": false, "trial_end": null,
            "items": { "data": [{ "price": { "id": "price_enterprise" },
                "current_period_start": 1_900_000_000, "current_period_end": 1_902_592_000 }] } } } });
    let body = event.to_string();
    for _ in 0..2 {
        let header = signature(WEBHOOK_SECRET, chrono::Utc::now().timestamp(), &body);
        let request = reqwest::Client::new()
            .post(format!("{}/webhooks/stripe", app.base))
            .header("stripe-signature", header)
            .body(body.clone());
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let plan = "{ organization { plan { key } } }";
    let data = app.user("acme-owner").data(plan).await;
    assert_eq!(data["organization"]["plan"]["key"], "enterprise");
    // The dedicated database has the billing state, the control database the look-up row, and each
    // event was applied once.
    let billed = format!(
        "SELECT plan || ' ' || stripe_customer_id FROM billing.organization_billing WHERE organization_id = '{ACME}'"
    );
    for database in [&eu.database, &app.database] {
        assert_eq!(database.exactly::<String>(&billed).await, "enterprise cus_1");
    }
    let response = "SELECT count(*) FROM audit.audit_logs WHERE action LIKE 'billing.%'";
    assert_eq!(eu.database.exactly::<i64>(response).await, 1);
    let done = "SELECT count(*) FROM billing.stripe_events WHERE processed_at IS NOT NULL AND error IS NULL";
    assert_eq!(app.database.exactly::<i64>(done).await, 1);
    assert_eq!(eu.database.exactly::<i64>("SELECT count(*) FROM billing.stripe_events").await, 0);
}
