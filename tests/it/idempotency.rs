//! Idempotency keys: a repeated mutation is executed once and gets the same response.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{App, AppSettings, Client, Reply, billing_app::PRICES, stripe::FakeStripe};

const CREATE: &str =
    "mutation ($name: String!) { createProject(input: { name: $name }) { project { id name } } }";
const FOUND: &str =
    "mutation { createOrganization(input: { name: \"Initech\", slug: \"initech\" }) {
    organization { id slug } } }";
const TWO: &str = "mutation ($a: String!, $b: String!) { createProject(input: { name: $a, description: $b }) { project { id } } }";
const INVITE: &str =
    "mutation { inviteMember(input: { email: \"new@example.com\", role: MEMBER }) { link } }";

async fn repeat(client: &Client, key: &str, body: &Value) -> Reply {
    Reply::of(client.post().header("idempotency-key", key).json(body)).await
}

fn create(name: &str) -> Value {
    json!({ "query": CREATE, "variables": { "name": name } })
}

async fn projects(app: &App, name: &str) -> i64 {
    app.database.value(&format!("SELECT count(*) FROM app.projects WHERE name = '{name}'")).await
}

#[tokio::test]
async fn a_mutation_repeated_with_a_key_is_executed_once_and_gets_the_same_response() {
    let app = App::start().await;
    let member = app.user("acme-member");
    let first = repeat(&member, "4711", &create("Anvil")).await;
    assert!(!first.is_replay(), "{first:?}");
    assert_eq!(first.body["data"]["createProject"]["project"]["name"], "Anvil");
    for _ in 0..3 {
        let again = repeat(&member, "4711", &create("Anvil")).await;
        assert!(again.is_replay(), "{again:?}");
        assert_eq!((again.status, &again.text), (first.status, &first.text));
    }
    assert_eq!(projects(&app, "Anvil").await, 1);
    let recorded = "SELECT count(*) FROM audit.audit_logs WHERE metadata->>'name' = 'Anvil'";
    assert_eq!(app.database.value::<i64>(recorded).await, 1);
    // Without the key it is another request.
    member.send(&create("Anvil")).await.data();
    assert_eq!(projects(&app, "Anvil").await, 2);
}

#[tokio::test]
async fn a_key_belongs_to_one_request() {
    let app = App::start().await;
    let member = app.user("acme-member");
    repeat(&member, "k", &create("Anvil")).await.data();
    let before = app.database.fingerprint().await;
    repeat(&member, "k", &create("Hammer")).await.assert_refused(409, "IDEMPOTENCY_CONFLICT");
    let other = json!({ "query": format!("{CREATE} "), "variables": { "name": "Anvil" } });
    repeat(&member, "k", &other).await.assert_refused(409, "IDEMPOTENCY_CONFLICT");
    assert_eq!(app.database.fingerprint().await, before);
    // The order of variables does not distinguish requests.
    let text = |variables: &str| format!("{{\"query\":{},\"variables\":{variables}}}", json!(TWO));
    let send = |body: String| {
        let request = member.post().header("content-type", "application/json");
        Reply::of(request.header("idempotency-key", "two").body(body))
    };
    send(text("{\"a\":\"x\",\"b\":\"y\"}")).await.data();
    assert!(send(text("{\"b\":\"y\",\"a\":\"x\"}")).await.is_replay());
}

#[tokio::test]
async fn a_key_belongs_to_a_user_in_an_organization() {
    let app = App::start().await;
    app.database
        .execute(
            "INSERT INTO auth.organization_members (organization_id, user_id, role)
             VALUES ('00000000-0000-4000-8000-00000000000b', '00000000-0000-4000-8000-0000000000a3', 'member')",
        )
        .await;
    let token = || Some(crate::support::app::token("acme-member"));
    let users =
        [app.user("acme-member"), app.user("acme-admin"), app.client(Some("globex"), token())];
    let mut ids = Vec::new();
    for user in &users {
        let reply = repeat(user, "same", &create("Anvil")).await;
        assert!(!reply.is_replay(), "{reply:?}");
        ids.push(reply.data()["createProject"]["project"]["id"].clone());
    }
    for (user, id) in users.iter().zip(&ids) {
        let reply = repeat(user, "same", &create("Anvil")).await;
        assert!(reply.is_replay());
        assert_eq!(reply.data()["createProject"]["project"]["id"], *id);
    }
    assert_eq!(projects(&app, "Anvil").await, 3);
    // A former member does not get the stored response.
    app.database
        .execute("DELETE FROM auth.organization_members WHERE user_id = '00000000-0000-4000-8000-0000000000a3'")
        .await;
    repeat(&users[0], "same", &create("Anvil")).await.assert_refused(404, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_concurrent_requests_with_one_key_are_executed_once() {
    let app = App::start().await;
    let member = app.user("acme-member");
    let replies = join_all((0..20).map(|_| {
        let member = member.clone();
        async move { repeat(&member, "burst", &create("Anvil")).await }
    }))
    .await;
    let first = &replies[0].text;
    for reply in &replies {
        assert_eq!((reply.status.as_u16(), &reply.text), (200, first));
    }
    assert_eq!(replies.iter().filter(|reply| !reply.is_replay()).count(), 1);
    assert_eq!(projects(&app, "Anvil").await, 1);
}

#[tokio::test]
async fn a_failed_mutation_is_executed_again() {
    let app = App::start().await;
    let viewer = app.user("acme-viewer");
    repeat(&viewer, "k", &create("Anvil")).await.assert_failed("FORBIDDEN");
    app.database
        .execute("UPDATE auth.organization_members SET role = 'member' WHERE user_id = '00000000-0000-4000-8000-0000000000a4'")
        .await;
    let reply = repeat(&viewer, "k", &create("Anvil")).await;
    assert!(!reply.is_replay());
    reply.data();
    assert!(repeat(&viewer, "k", &create("Anvil")).await.is_replay());
}

#[tokio::test]
async fn creating_or_joining_an_organization_can_be_repeated() {
    let app = App::start().await;
    let founder = app.outsider("founder");
    let body = json!({ "query": FOUND });
    let first = repeat(&founder, "found", &body).await;
    let again = repeat(&founder, "found", &body).await;
    assert!(again.is_replay(), "{again:?}");
    assert_eq!(again.text, first.text);
    // Without the key the slug is taken.
    founder.send(&body).await.assert_failed("CONFLICT");

    let inviting =
        repeat(&app.user("acme-admin"), "invite", &json!({ "query": INVITE })).await.data();
    let link = inviting["inviteMember"]["link"].as_str().unwrap();
    let token = link.split_once("token=").unwrap().1;
    let kept: Vec<u8> =
        app.database.value("SELECT response FROM auth.idempotency_keys WHERE key = 'invite'").await;
    assert!(
        !String::from_utf8_lossy(&kept).contains("token="),
        "secrets are not kept in the clear"
    );
    let joiner = app.client(
        None,
        Some(crate::support::app::token_with(
            &json!({ "sub": "joiner", "email": "new@example.com", "email_verified": true }),
        )),
    );
    let accept = json!({
        "query": "mutation ($token: String!) { acceptInvitation(input: { token: $token }) { organization { slug } } }",
        "variables": { "token": token },
    });
    let first = repeat(&joiner, "join", &accept).await;
    assert_eq!(first.body["data"]["acceptInvitation"]["organization"]["slug"], "acme", "{first:?}");
    let again = repeat(&joiner, "join", &accept).await;
    assert!(again.is_replay(), "{again:?}");
    assert_eq!(again.text, first.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_acceptances_with_one_key_are_executed_once() {
    let app = App::start().await;
    let inviting = app.user("acme-admin").data(INVITE).await;
    let link = inviting["inviteMember"]["link"].as_str().unwrap();
    let claims = json!({ "sub": "joiner", "email": "new@example.com", "email_verified": true });
    let joiner = app.client(None, Some(crate::support::app::token_with(&claims)));
    let accept = json!({
        "query": "mutation ($token: String!) { acceptInvitation(input: { token: $token }) { organization { slug viewerRole } } }",
        "variables": { "token": link.split_once("token=").unwrap().1 },
    });
    let replies = join_all((0..6).map(|_| repeat(&joiner, "join", &accept))).await;
    let accepted = json!({ "organization": { "slug": "acme", "viewerRole": "MEMBER" } });
    for reply in &replies {
        assert_eq!(reply.body["data"]["acceptInvitation"], accepted, "{reply:?}");
    }
    assert_eq!(replies.iter().filter(|reply| !reply.is_replay()).count(), 1);
}

#[tokio::test]
async fn a_key_is_valid_for_a_day() {
    let app = App::start().await;
    let member = app.user("acme-member");
    repeat(&member, "k", &create("Anvil")).await.data();
    app.database
        .execute("UPDATE auth.idempotency_keys SET created_at = now() - interval '25 hours'")
        .await;
    let reply = repeat(&member, "k", &create("Hammer")).await;
    assert!(!reply.is_replay());
    reply.data();
    assert_eq!(app.database.value::<i64>("SELECT count(*) FROM auth.idempotency_keys").await, 1);
    app.database
        .execute("UPDATE auth.idempotency_keys SET created_at = now() - interval '25 hours'")
        .await;
    assert_eq!(app.database.value::<i64>("SELECT app.delete_processed()").await, 1);
}

#[tokio::test]
async fn an_invalid_key_is_rejected() {
    let app = App::start().await;
    let member = app.user("acme-member");
    let long = "x".repeat(256);
    for key in ["", " ", "a b", "schlüssel", long.as_str()] {
        let reply = repeat(&member, key, &create("Anvil")).await;
        reply.assert_refused(400, "UNSUPPORTED_REQUEST");
    }
    let two = member.post().header("idempotency-key", "a").header("idempotency-key", "b");
    Reply::of(two.json(&create("Anvil"))).await.assert_refused(400, "UNSUPPORTED_REQUEST");
    let batch = json!([create("Anvil"), create("Anvil")]);
    repeat(&member, "k", &batch).await.assert_refused(400, "UNSUPPORTED_REQUEST");
    assert_eq!(projects(&app, "Anvil").await, 0);
    // Responses to queries are not stored.
    let query = json!({ "query": "{ organization { name } }" });
    assert!(!repeat(&member, "q", &query).await.is_replay());
    assert!(!repeat(&member, "q", &query).await.is_replay());
}

#[tokio::test]
async fn a_key_in_quotes_or_in_capitals_is_the_same_key() {
    let app = App::start().await;
    let member = app.user("acme-member");
    let key = "8e03978e-40d5-43dd-bc93-6894a57f9324";
    let quoted = format!("\"{key}\"");
    assert!(!repeat(&member, key, &create("Anvil")).await.is_replay());
    for same in [&quoted, &key.to_uppercase(), &quoted.to_uppercase()] {
        assert!(repeat(&member, same, &create("Anvil")).await.is_replay(), "{same}");
    }
    assert_eq!(projects(&app, "Anvil").await, 1);
    // Another text is another key.
    assert!(!repeat(&member, "order-7", &create("Anvil")).await.is_replay());
    assert!(repeat(&member, "\"order-7\"", &create("Anvil")).await.is_replay());
    assert!(!repeat(&member, "Order-7", &create("Anvil")).await.is_replay());
    assert_eq!(projects(&app, "Anvil").await, 3);
}

#[tokio::test]
async fn stripe_is_called_once_for_one_key() {
    let stripe = FakeStripe::start().await;
    let mut settings = AppSettings::default();
    settings.areas.billing.stripe = Some(stripe.client());
    let app = App::with(settings).await;
    app.database.execute(PRICES).await;
    let owner = app.user("globex-owner");
    let body = json!({ "query": "mutation { createCheckoutSession(input: { plan: \"pro\" }) { checkoutSession { id } } }" });
    let first = repeat(&owner, "k", &body).await;
    let again = repeat(&owner, "k", &body).await;
    assert!(again.is_replay(), "{again:?}");
    assert_eq!(again.text, first.text);
    let checkouts =
        stripe.take_requests().iter().filter(|calls| calls.path.contains("checkout")).count();
    assert_eq!(checkouts, 1);

    // While the call to Stripe runs, the intent is committed already: a repetition gets an error
    // that says so.
    stripe.set_delay(std::time::Duration::from_millis(1_500));
    let thinking = tokio::spawn({
        let (owner, body) = (owner.clone(), body.clone());
        async move { repeat(&owner, "slow", &body).await }
    });
    let started = "SELECT count(*) FROM auth.idempotency_keys WHERE key = 'slow'";
    while app.database.value::<i64>(started).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let early = repeat(&owner, "slow", &body).await;
    early.assert_refused(409, "IDEMPOTENCY_CONFLICT");
    assert_eq!(early.headers["retry-after"], "1");
    thinking.await.unwrap().data();
    assert!(repeat(&owner, "slow", &body).await.is_replay());
}

#[tokio::test]
async fn a_response_that_is_too_long_is_not_stored_and_the_mutation_is_not_repeated() {
    let mut settings = AppSettings::default();
    settings.limits.complexity = 1_000_000;
    let app = App::with(settings).await;
    app.database
        .execute(
            "INSERT INTO app.projects (organization_id, name, description)
             SELECT '00000000-0000-4000-8000-00000000000a', 'many ' || n, repeat('x', 2000) FROM generate_series(1, 40) n",
        )
        .await;
    let body = json!({ "query": "mutation {
        createProject(input: { name: \"Anvil\" }) { project { id } }
        query { organization { a: projects(first: 100) { nodes { description } } b: projects(first: 100) { nodes { description } }
            c: projects(first: 100) { nodes { description } } d: projects(first: 100) { nodes { description } } } } }" });
    let member = app.user("acme-member");
    repeat(&member, "long", &body).await.data();
    let again = repeat(&member, "long", &body).await;
    again.assert_refused(409, "IDEMPOTENCY_CONFLICT");
    assert!(again.text.contains("too long to store"), "{again:?}");
    assert_eq!(projects(&app, "Anvil").await, 1);
}
