//! Names and pictures of users: those of the identity provider, until the user chooses a name.

use serde_json::{Value, json};

use crate::{
    databases::{acme_in_eu, command, succeeded},
    support::{
        App, AppSettings, Client, HANG,
        app::{now, token_with},
    },
};

const UPDATE: &str =
    "mutation ($name: String) { updateViewer(input: { name: $name }) { viewer { name } } }";

/// Returns a client whose token is `age` seconds old.
fn with(app: &App, more: &Value, age: f64) -> Client {
    let mut claims = json!({ "sub": "ada", "iat": now() - age });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app.client(None, Some(token_with(&claims)))
}

async fn viewer(client: &Client) -> Value {
    client.data("{ viewer { name pictureUrl } }").await["viewer"].clone()
}

async fn name(client: &Client) -> Value {
    viewer(client).await["name"].clone()
}

#[tokio::test]
async fn a_name_follows_the_identity_provider() {
    let app = App::start().await;
    let named = |name: &str, age: f64| with(&app, &json!({ "name": name }), age);
    assert_eq!(name(&with(&app, &json!({}), 90.0)).await, Value::Null);
    let first = named("User A", 80.0);
    assert_eq!(name(&first).await, "User A", "the first token with a name fills it");
    assert_eq!(name(&named("User A L.", 70.0)).await, "User A L.");
    // An older token, one without a name, and one with an invisible name change nothing.
    for client in
        [first, named("Older", 75.0), with(&app, &json!({}), 60.0), named("\u{3164}", 50.0)]
    {
        assert_eq!(name(&client).await, "User A L.");
    }
    // The same in a mutation, and written once.
    let renamed = named("Ada", 40.0);
    for _ in 0..2 {
        let data = renamed.data("mutation { query { viewer { name } } }").await;
        assert_eq!(data["query"]["viewer"]["name"], "Ada");
    }
    let written = "SELECT xmin::text FROM auth.identities WHERE subject = 'ada'";
    let before: String = app.database.value(written).await;
    assert_eq!(name(&renamed).await, "Ada");
    assert_eq!(app.database.value::<String>(written).await, before);
}

#[tokio::test]
async fn a_token_without_a_time_fills_a_missing_name_and_changes_none() {
    let app = App::start().await;
    let timeless = |name: &str| {
        let claims = json!({ "sub": "ada", "name": name, "exp": now() + 600.0 });
        app.client(None, Some(token_with(&claims)))
    };
    assert_eq!(name(&with(&app, &json!({}), 0.0)).await, Value::Null);
    assert_eq!(name(&timeless("Ada")).await, "Ada");
    assert_eq!(name(&timeless("Bob")).await, "Ada");
}

#[tokio::test]
async fn a_picture_follows_the_identity_provider_if_it_is_encrypted() {
    let app = App::start().await;
    let (one, two) = ("https://pictures.example/1", "https://pictures.example/2?size=96");
    for (picture, age, expected) in [
        (json!("http://pictures.example/1"), 90.0, Value::Null),
        (json!(one), 80.0, json!(one)),
        (json!({ "url": two }), 70.0, json!(one)),
        (json!("javascript:alert(1)"), 60.0, json!(one)),
        (json!([two]), 50.0, json!(two)),
        (json!(one), 55.0, json!(two)),
    ] {
        let client = with(&app, &json!({ "name": "Ada", "picture": picture }), age);
        assert_eq!(viewer(&client).await, json!({ "name": "Ada", "pictureUrl": expected }));
    }
}

#[tokio::test]
async fn a_chosen_name_is_kept_until_the_user_gives_it_up() {
    let app = App::start().await;
    // The identity of the demo is as new as the database, and the tokens below are older.
    app.database.execute("UPDATE auth.identities SET issued_at = now() - interval '1 hour'").await;
    let member = |name: &str, age: f64| {
        let claims = json!({ "sub": "acme-member", "name": name, "iat": now() - age });
        app.client(Some("acme"), Some(token_with(&claims)))
    };
    assert_eq!(name(&member("Mia Miller", 90.0)).await, "Mia Miller");
    let client = member("Mia Miller", 80.0);
    let renamed = client.query_with(UPDATE, json!({ "name": " Dr. Mia " })).await.data();
    assert_eq!(renamed["updateViewer"]["viewer"]["name"], "Dr. Mia");
    assert_eq!(name(&member("Mia M.", 70.0)).await, "Dr. Mia");
    let members = "{ organization { members { nodes { user { name } } } } }";
    let seen = app.user("acme-owner").data(members).await.to_string();
    assert!(seen.contains("Dr. Mia") && !seen.contains("Miller"), "{seen}");
    let before = app.database.fingerprint().await;
    let too_long = "n".repeat(201);
    for bad in ["", " ", "\u{200b}", "\u{3164}\u{2800}", "a\u{202e}b", "\u{301}", &too_long] {
        let reply = client.query_with(UPDATE, json!({ "name": bad })).await;
        reply.assert_failed("BAD_USER_INPUT");
        assert_eq!(reply.body["errors"][0]["extensions"]["field"], "input.name");
    }
    // The same name, and no field at all, change nothing.
    client.query_with(UPDATE, json!({ "name": "Dr. Mia" })).await.data();
    client.data("mutation { updateViewer(input: {}) { viewer { name } } }").await;
    assert_eq!(app.database.fingerprint().await, before);
    // Null: the name of the newest token counts again.
    let freed = client.query_with(UPDATE, json!({ "name": null })).await.data();
    assert_eq!(freed["updateViewer"]["viewer"]["name"], "Mia M.");
    assert_eq!(name(&member("Mia Moore", 10.0)).await, "Mia Moore");
    let log = "{ organization { auditLogs(first: 2) { nodes { action actorName metadata } } } }";
    let log = app.user("acme-owner").data(log).await;
    let entry = |actor: &str, name: &str| {
        json!({ "action": "user.renamed", "actorName": actor,
                "metadata": { "user_id": "00000000-0000-4000-8000-0000000000a3", "name": name } })
    };
    assert_eq!(
        log["organization"]["auditLogs"]["nodes"],
        json!([entry("Dr. Mia", "Mia M."), entry("Mia Miller", "Dr. Mia")])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dedicated_database_receives_names_as_well() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    let settings = AppSettings { dedicated: vec![eu], ..AppSettings::default() };
    let app = App::on(control, settings).await;
    let member = |name: &str, age: f64| {
        let claims = json!({ "sub": "acme-member", "name": name, "iat": now() - age });
        app.client(Some("acme"), Some(token_with(&claims)))
    };
    assert_eq!(name(&member("Mia Miller", 90.0)).await, "Mia Miller");
    let client = member("Mia Miller", 80.0);
    client.query_with(UPDATE, json!({ "name": "Dr. Mia" })).await.data();
    let log = "{ organization { auditLogs(first: 1) { nodes { action metadata } } members { nodes { user { name } } } } }";
    let start = std::time::Instant::now();
    loop {
        let seen = app.user("acme-owner").data(log).await["organization"].clone();
        if seen["members"].to_string().contains("Dr. Mia") {
            let entry = &seen["auditLogs"]["nodes"][0];
            assert_eq!(
                (&entry["action"], &entry["metadata"]["name"]),
                (&json!("user.renamed"), &json!("Dr. Mia"))
            );
            break;
        }
        assert!(start.elapsed() < HANG, "{seen}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(name(&member("Mia M.", 70.0)).await, "Dr. Mia");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_finds_users_and_organizations_in_every_spelling() {
    let app = App::start().await;
    let claims =
        json!({ "sub": "ada", "email": "ada@b\u{fc}cher.example", "email_verified": true });
    let ada = app.client(None, Some(token_with(&claims)));
    for address in
        ["ADA@B\u{dc}CHER.example", "ada@xn--bcher-kva.example", "ada@bu\u{308}cher.example"]
    {
        ada.data("{ viewer { id } }").await;
        succeeded(&command(&app.database, &[], &["user", "suspend", address]).await);
        ada.query("{ viewer { id } }").await.assert_refused(403, "USER_SUSPENDED");
        succeeded(&command(&app.database, &[], &["user", "resume", address]).await);
    }
    succeeded(&command(&app.database, &[], &["tenant", "show", "ACME"]).await);
}
