//! Mutations that are sent again and again under one key, and keys that are none.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{App, Client, Reply};

async fn create(client: &Client, key: &[u8], name: &str) -> Reply {
    let query =
        "mutation ($name: String!) { createProject(input: { name: $name }) { project { id } } }";
    let body = json!({ "query": query, "variables": { "name": name } });
    Reply::of(client.post().header("idempotency-key", key).json(&body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_under_one_key_is_one_change() {
    let app = App::start().await;
    let owner = app.person("acme-owner");
    let flood = join_all((0..30).map(|_| create(&owner, b"a-key", "once"))).await;
    let mut ids: Vec<_> = flood
        .iter()
        .filter(|reply| reply.status == 200)
        .map(|reply| reply.body["data"]["createProject"]["project"]["id"].to_string())
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{flood:?}");
    assert!(
        flood.iter().all(|reply| [200, 409, 429].contains(&reply.status.as_u16())),
        "{flood:?}"
    );
    let made = "SELECT count(*) FROM app.projects WHERE name = 'once'";
    assert_eq!(app.database.value::<i64>(made).await, 1);
    create(&owner, b"a-key", "other").await.assert_refused(409, "IDEMPOTENCY_CONFLICT");
    // Somebody else's key of the same name is another one.
    assert_eq!(create(&app.person("acme-admin"), b"a-key", "once").await.status, 200);
    assert_eq!(app.database.value::<i64>(made).await, 2);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let app = App::start().await;
    let owner = app.person("acme-owner");
    let before = app.database.fingerprint().await;
    for key in
        [&b""[..], b"a b", b"\xff", "k\u{e9}".as_bytes(), b"a\tb", &[b'k'; 256], &[b'k'; 4_000]]
    {
        create(&owner, key, "never").await.assert_refused(400, "UNSUPPORTED_REQUEST");
    }
    assert_eq!(app.database.fingerprint().await, before);
}
