//! Returning after erasure with a token issued before it.

use serde_json::{Value, json};

use crate::{
    databases::{command, succeeded},
    support::{
        App, Client,
        app::{now, token_with},
    },
};

fn client(app: &App, claims: &Value) -> Client {
    app.client(None, Some(token_with(claims)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_user_does_not_return_with_an_older_token() {
    let app = App::start().await;
    let me = json!({ "iss": "i", "sub": "mallory", "email": "mallory@x.example", "email_verified": true });
    let mut old = me.clone();
    old["iat"] = json!(now());
    let mut timeless = me.clone();
    timeless["exp"] = json!(now() + 3_600.0);
    let (old, timeless) = (client(&app, &old), client(&app, &timeless));
    let before = old.data("{ viewer { id } }").await["viewer"]["id"].clone();
    assert_eq!(timeless.data("{ viewer { id } }").await["viewer"]["id"], before);

    succeeded(&command(&app.database, &[], &["user", "erase", "mallory@x.example"]).await);
    let known = "SELECT count(*) FROM auth.identities WHERE subject = 'mallory'";
    let refused = async || {
        for client in [&old, &timeless] {
            for query in [
                "{ viewer { id } }",
                "mutation { createOrganization(input: { name: \"M\", slug: \"mallory\" }) { organization { id } } }",
            ] {
                let reply = client.query(query).await;
                reply.assert_refused(401, "UNAUTHENTICATED");
                assert!(reply.text.contains("before its user was erased"), "{}", reply.text);
            }
        }
    };
    refused().await;
    assert_eq!(app.database.value::<i64>(known).await, 0);
    // The rows that remain identify no user.
    let kept: String =
        app.database.value("SELECT string_agg(e::text, '') FROM auth.erased_identities e").await;
    assert!(!kept.contains("mallory"), "{kept}");

    // A new sign-in creates a new user, and older tokens stay rejected.
    let again =
        client(&app, &me).data("{ viewer { id memberships { slug } } }").await["viewer"].clone();
    assert_ne!(again["id"], before);
    assert_eq!(again["memberships"], json!([]));
    refused().await;
    // After a second erasure, tokens issued between the two are rejected as well.
    let between = client(&app, &me);
    between.data("{ viewer { id } }").await;
    succeeded(&command(&app.database, &[], &["user", "erase", "mallory@x.example"]).await);
    between.query("{ viewer { id } }").await.assert_refused(401, "UNAUTHENTICATED");
    refused().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_user_with_an_address_can_be_erased_by_it() {
    let app = App::start().await;
    let claims = |subject: &str| json!({ "iss": "i", "sub": subject, "email": "both@x.example", "email_verified": true });
    for subject in ["one", "two"] {
        client(&app, &claims(subject)).data("{ viewer { id } }").await;
    }
    let ambiguous = command(&app.database, &[], &["user", "erase", "both@x.example"]).await;
    assert_eq!(ambiguous.code, Some(1));
    let ids: Vec<String> = app
        .database
        .value("SELECT array_agg(user_id::text) FROM auth.identities WHERE issuer = 'i'")
        .await;
    for id in ids {
        assert!(ambiguous.stderr.contains(&id), "{}", ambiguous.stderr);
        succeeded(&command(&app.database, &[], &["user", "erase", &id]).await);
    }
    let left = "SELECT count(*) FROM auth.identities WHERE issuer = 'i'";
    assert_eq!(app.database.value::<i64>(left).await, 0);
}
