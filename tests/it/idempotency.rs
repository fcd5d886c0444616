//! Mutations that are repeated with a key: done once, answered alike.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{App, AppSettings, Client, Reply, stripe::FakeStripe};

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

fn is_replay(reply: &Reply) -> bool {
    reply.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
}

async fn projects(app: &App, name: &str) -> i64 {
    app.database.value(&format!("SELECT count(*) FROM app.projects WHERE name = '{name}'")).await
}

#[tokio::test]
async fn what_is_repeated_with_a_key_is_done_once_and_answered_alike() {
    let app = App::start().await;
    let member = app.person("acme-member");
    let first = repeat(&member, "4711", &create("Anvil")).await;
    assert!(!is_replay(&first), "{first:?}");
    assert_eq!(first.body["data"]["createProject"]["project"]["name"], "Anvil");
    for _ in 0..3 {
        let again = repeat(&member, "4711", &create("Anvil")).await;
        assert!(is_replay(&again), "{again:?}");
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
async fn a_key_stands_for_one_request() {
    let app = App::start().await;
    let member = app.person("acme-member");
    repeat(&member, "k", &create("Anvil")).await.data();
    let before = app.database.fingerprint().await;
    repeat(&member, "k", &create("Hammer")).await.assert_refused(409, "IDEMPOTENCY_CONFLICT");
    let other = json!({ "query": format!("{CREATE} "), "variables": { "name": "Anvil" } });
    repeat(&member, "k", &other).await.assert_refused(409, "IDEMPOTENCY_CONFLICT");
    assert_eq!(app.database.fingerprint().await, before);
    // The order of variables is nothing that a client decides.
    let text = |variables: &str| format!("{{\"query\":{},\"variables\":{variables}}}", json!(TWO));
    let send = |body: String| {
        let request = member.post().header("content-type", "application/json");
        Reply::of(request.header("idempotency-key", "two").body(body))
    };
    send(text("{\"a\":\"x\",\"b\":\"y\"}")).await.data();
    assert!(is_replay(&send(text("{\"b\":\"y\",\"a\":\"x\"}")).await));
}

#[tokio::test]
async fn a_key_belongs_to_a_person_in_an_organization() {
    let app = App::start().await;
    app.database
        .execute(
            "INSERT INTO auth.organization_members (organization_id, user_id, role)
             VALUES ('00000000-0000-4000-8000-00000000000b', '00000000-0000-4000-8000-0000000000a3', 'member')",
        )
        .await;
    let token = || Some(crate::support::app::token("acme-member"));
    let people =
        [app.person("acme-member"), app.person("acme-admin"), app.client(Some("globex"), token())];
    let mut ids = Vec::new();
    for person in &people {
        let reply = repeat(person, "same", &create("Anvil")).await;
        assert!(!is_replay(&reply), "{reply:?}");
        ids.push(reply.data()["createProject"]["project"]["id"].clone());
    }
    for (person, id) in people.iter().zip(&ids) {
        let reply = repeat(person, "same", &create("Anvil")).await;
        assert!(is_replay(&reply));
        assert_eq!(reply.data()["createProject"]["project"]["id"], *id);
    }
    assert_eq!(projects(&app, "Anvil").await, 3);
    // Who is no member any more gets nothing of what was kept.
    app.database
        .execute("DELETE FROM auth.organization_members WHERE user_id = '00000000-0000-4000-8000-0000000000a3'")
        .await;
    repeat(&people[0], "same", &create("Anvil")).await.assert_refused(404, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_with_one_key_are_one() {
    let app = App::start().await;
    let member = app.person("acme-member");
    let replies = join_all((0..20).map(|_| {
        let member = member.clone();
        async move { repeat(&member, "burst", &create("Anvil")).await }
    }))
    .await;
    let first = &replies[0].text;
    for reply in &replies {
        assert_eq!((reply.status.as_u16(), &reply.text), (200, first));
    }
    assert_eq!(replies.iter().filter(|reply| !is_replay(reply)).count(), 1);
    assert_eq!(projects(&app, "Anvil").await, 1);
}

#[tokio::test]
async fn what_came_to_nothing_is_tried_anew() {
    let app = App::start().await;
    let viewer = app.person("acme-viewer");
    repeat(&viewer, "k", &create("Anvil")).await.assert_failed("FORBIDDEN");
    app.database
        .execute("UPDATE auth.organization_members SET role = 'member' WHERE user_id = '00000000-0000-4000-8000-0000000000a4'")
        .await;
    let reply = repeat(&viewer, "k", &create("Anvil")).await;
    assert!(!is_replay(&reply));
    reply.data();
    assert!(is_replay(&repeat(&viewer, "k", &create("Anvil")).await));
}

#[tokio::test]
async fn whoever_founds_or_joins_an_organization_can_repeat_it() {
    let app = App::start().await;
    let founder = app.stranger("founder");
    let body = json!({ "query": FOUND });
    let first = repeat(&founder, "found", &body).await;
    let again = repeat(&founder, "found", &body).await;
    assert!(is_replay(&again), "{again:?}");
    assert_eq!(again.text, first.text);
    // Without the key the slug is taken.
    founder.send(&body).await.assert_failed("CONFLICT");

    let inviting =
        repeat(&app.person("acme-admin"), "invite", &json!({ "query": INVITE })).await.data();
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
    assert!(is_replay(&again), "{again:?}");
    assert_eq!(again.text, first.text);
}

#[tokio::test]
async fn a_key_counts_for_a_day() {
    let app = App::start().await;
    let member = app.person("acme-member");
    repeat(&member, "k", &create("Anvil")).await.data();
    app.database
        .execute("UPDATE auth.idempotency_keys SET created_at = now() - interval '25 hours'")
        .await;
    let reply = repeat(&member, "k", &create("Hammer")).await;
    assert!(!is_replay(&reply));
    reply.data();
    assert_eq!(app.database.value::<i64>("SELECT count(*) FROM auth.idempotency_keys").await, 1);
    app.database
        .execute("UPDATE auth.idempotency_keys SET created_at = now() - interval '25 hours'")
        .await;
    assert_eq!(app.database.value::<i64>("SELECT app.forget_processed()").await, 1);
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    let app = App::start().await;
    let member = app.person("acme-member");
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
    // A query is never kept.
    let query = json!({ "query": "{ organization { name } }" });
    assert!(!is_replay(&repeat(&member, "q", &query).await));
    assert!(!is_replay(&repeat(&member, "q", &query).await));
}

#[tokio::test]
async fn stripe_is_asked_once_for_one_key() {
    let stripe = FakeStripe::start().await;
    let mut settings = AppSettings::default();
    settings.business.stripe = Some(stripe.client());
    let app = App::with(settings).await;
    app.database
        .execute("UPDATE billing.plans SET stripe_price_id = 'price_' || plan WHERE NOT is_default")
        .await;
    let owner = app.person("globex-owner");
    let body = json!({ "query": "mutation { createCheckoutSession(input: { plan: \"pro\" }) { checkoutSession { id } } }" });
    let first = repeat(&owner, "k", &body).await;
    let again = repeat(&owner, "k", &body).await;
    assert!(is_replay(&again), "{again:?}");
    assert_eq!(again.text, first.text);
    let checkouts = stripe.asked().iter().filter(|asked| asked.path.contains("checkout")).count();
    assert_eq!(checkouts, 1);

    // While Stripe thinks, the intent is committed already: whoever repeats it is told so.
    stripe.takes(std::time::Duration::from_millis(1_500));
    let thinking = tokio::spawn({
        let (owner, body) = (owner.clone(), body.clone());
        async move { repeat(&owner, "slow", &body).await }
    });
    let begun = "SELECT count(*) FROM auth.idempotency_keys WHERE key = 'slow'";
    while app.database.value::<i64>(begun).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let early = repeat(&owner, "slow", &body).await;
    early.assert_refused(409, "IDEMPOTENCY_CONFLICT");
    assert_eq!(early.headers["retry-after"], "1");
    thinking.await.unwrap().data();
    assert!(is_replay(&repeat(&owner, "slow", &body).await));
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_kept_but_not_repeated_either() {
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
    let member = app.person("acme-member");
    repeat(&member, "long", &body).await.data();
    let again = repeat(&member, "long", &body).await;
    again.assert_refused(409, "IDEMPOTENCY_CONFLICT");
    assert!(again.text.contains("too long to store"), "{again:?}");
    assert_eq!(projects(&app, "Anvil").await, 1);
}
