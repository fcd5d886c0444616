//! The HTTP layer around a request: persisted documents, CORS, compression and request ids.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use tenantry::http::PersistedDocuments;

use crate::support::{App, AppSettings, Client, Reply, app};

const QUERY: &str = "query Name { organization { name } }";

fn hash(text: &str) -> String {
    let bytes = digest(&SHA256, text.as_bytes());
    bytes.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn persisted(text: &str) -> Value {
    json!({ "persistedQuery": { "version": 1, "sha256Hash": hash(text) } })
}

#[tokio::test]
async fn a_persisted_query_is_sent_once() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let named = json!({ "extensions": persisted(QUERY) });
    let unknown = owner.send(&named).await;
    unknown.assert_refused(400, "PERSISTED_QUERY_NOT_FOUND");
    assert_eq!(unknown.body["errors"][0]["message"], "PersistedQueryNotFound", "as clients expect");
    owner.send(&json!({ "query": QUERY, "extensions": persisted(QUERY) })).await.data();
    assert_eq!(owner.send(&named).await.data()["organization"]["name"], "Acme");
    // Over GET, which caches prefer, and for another user, who acts as themselves.
    let globex = app.user("globex-owner");
    let extensions = persisted(QUERY).to_string();
    let reply = Reply::of(globex.get().query(&[("extensions", extensions.as_str())])).await;
    assert_eq!(reply.data()["organization"]["name"], "Globex");
    let by_id = json!({ "documentId": format!("sha256:{}", hash(QUERY)) });
    assert_eq!(owner.send(&by_id).await.data()["organization"]["name"], "Acme");
    // An invalid document is not stored.
    let wrong = json!({ "query": "{ __typename }", "extensions": persisted(QUERY) });
    owner.send(&wrong).await.assert_refused(400, "GRAPHQL_VALIDATION_FAILED");
    let invalid = "{ nothing }";
    owner
        .send(&json!({ "query": invalid, "extensions": persisted(invalid) }))
        .await
        .assert_refused(400, "GRAPHQL_VALIDATION_FAILED");
    owner
        .send(&json!({ "extensions": persisted(invalid) }))
        .await
        .assert_refused(400, "PERSISTED_QUERY_NOT_FOUND");
    for bad in
        [json!({ "version": 2, "sha256Hash": hash(QUERY) }), json!({ "version": 1 }), json!(7)]
    {
        let reply = owner.send(&json!({ "extensions": { "persistedQuery": bad } })).await;
        reply.assert_refused(400, "UNSUPPORTED_REQUEST");
    }
    let mutation = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
    owner.send(&json!({ "query": mutation, "extensions": persisted(mutation) })).await.data();
    let extensions = persisted(mutation).to_string();
    let reply = Reply::of(owner.get().query(&[("extensions", extensions.as_str())])).await;
    assert_eq!(reply.status, 405);
}

async fn with_manifest(manifest: &Value) -> (App, Client) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), manifest.to_string()).unwrap();
    let documents = PersistedDocuments::trusted(file.path()).unwrap();
    let app = App::with(AppSettings { documents, ..AppSettings::default() }).await;
    let owner = app.user("acme-owner");
    (app, owner)
}

#[tokio::test]
async fn with_a_manifest_only_its_documents_are_executed() {
    let by_hash = json!({ hash(QUERY): QUERY });
    let by_id = json!({ "format": "apollo-persisted-query-manifest", "version": 1, "operations": [
        { "id": "name-1", "name": "Name", "type": "query", "body": QUERY },
    ] });
    for (manifest, id) in [(by_hash, hash(QUERY)), (by_id, "name-1".to_owned())] {
        let (app, owner) = with_manifest(&manifest).await;
        let before = app.database.fingerprint().await;
        for trusted in [
            json!({ "documentId": id }),
            json!({ "query": QUERY }),
            json!({ "extensions": persisted(QUERY) }),
        ] {
            assert_eq!(
                owner.send(&trusted).await.data()["organization"]["name"],
                "Acme",
                "{trusted}"
            );
        }
        let mutation = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
        for other in [
            json!({ "query": mutation }),
            json!({ "query": "{ __typename }" }),
            json!({ "documentId": "name-2" }),
            json!({ "query": mutation, "extensions": persisted(mutation) }),
        ] {
            owner.send(&other).await.assert_refused(400, "PERSISTED_QUERY_NOT_FOUND");
        }
        assert_eq!(app.database.fingerprint().await, before);
    }
    let folder = tempfile::tempdir().unwrap();
    for bad in ["", "[]", "{}", "{\"a\": 1}"] {
        let file = folder.path().join("manifest.json");
        std::fs::write(&file, bad).unwrap();
        let error = PersistedDocuments::trusted(&file).unwrap_err().to_string();
        assert!(
            error.starts_with("TRUSTED_DOCUMENTS") && error.contains("manifest.json"),
            "{error}"
        );
    }
}

/// The headers of a page with Apollo Client, OpenTelemetry and Sentry.
const TRACED: &str = "authorization,content-type,idempotency-key,max-staleness,traceparent,tracestate,baggage,sentry-trace,\
    apollographql-client-name,apollographql-client-version,apollo-require-preflight,x-apollo-operation-name";

#[tokio::test]
async fn pages_of_other_origins_need_permission() {
    let cors_origins = vec!["https://app.example".parse().unwrap()];
    let app = App::with(AppSettings { cors_origins, ..AppSettings::default() }).await;
    let owner = app.user("acme-owner");
    let preflight = async |origin: &str| {
        let request = reqwest::Client::new().request(reqwest::Method::OPTIONS, &owner.url);
        request
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", TRACED)
            .send()
            .await
            .unwrap()
    };
    let good = preflight("https://app.example").await;
    assert_eq!(good.headers()["access-control-allow-origin"], "https://app.example");
    assert_eq!(good.headers()["access-control-allow-headers"], TRACED);
    for other in ["https://evil.example", "https://app.example.evil.example", "null"] {
        let bad = preflight(other).await;
        assert!(!bad.headers().contains_key("access-control-allow-origin"), "{other}");
    }
    let reply = Reply::of(
        owner.post().header("origin", "https://app.example").json(&json!({ "query": QUERY })),
    )
    .await;
    assert_eq!(reply.headers["access-control-allow-origin"], "https://app.example");
    let exposed = reply.headers["access-control-expose-headers"].to_str().unwrap();
    for name in ["ratelimit-remaining", "write-position", "served-by"] {
        assert!(exposed.contains(name), "{name} is not in {exposed}");
    }
    // Without configured origins, none is allowed.
    let app = App::start().await;
    let request = app.user("acme-owner").post().header("origin", "https://app.example");
    let reply = Reply::of(request.json(&json!({ "query": QUERY }))).await;
    assert!(!reply.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_request_keeps_its_id_from_end_to_end() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let id = uuid::Uuid::new_v4().to_string();
    let ask = async |given: &str, query: &str| {
        Reply::of(owner.post().header("x-request-id", given).json(&json!({ "query": query }))).await
    };
    assert_eq!(ask(&id, QUERY).await.headers["x-request-id"], id.as_str());
    // A value that is no UUID is not repeated.
    for unusual in ["1", "<script>", &"x".repeat(5_000)] {
        let made = ask(unusual, QUERY).await.headers["x-request-id"].to_str().unwrap().to_owned();
        assert!(uuid::Uuid::try_parse(&made).is_ok() && made != unusual, "{made}");
    }
    app.database.execute("ALTER TABLE app.projects RENAME COLUMN name TO title").await;
    let reply = ask(&id, "{ organization { projects { nodes { name } } } }").await;
    assert_eq!(reply.body["errors"][0]["extensions"]["requestId"], id.as_str(), "{reply:?}");
}

#[tokio::test]
async fn long_responses_are_compressed_for_clients_that_accept_it() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let long = json!({ "query": "{ __schema { types { name description fields { name description } } } }" });
    let plain = owner.send(&long).await;
    assert!(!plain.headers.contains_key("content-encoding"));
    let request = owner.post().header("accept-encoding", "gzip").json(&long).send();
    let response = request.await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let vary: Vec<_> = response.headers().get_all("vary").iter().collect();
    for name in ["accept, authorization", "accept-encoding"] {
        assert!(vary.iter().any(|value| *value == name), "{vary:?}");
    }
    let compressed = response.bytes().await.unwrap();
    assert!(
        compressed.len() * 4 < plain.text.len(),
        "{} of {}",
        compressed.len(),
        plain.text.len()
    );
    let short =
        owner.post().header("accept-encoding", "gzip").json(&json!({ "query": QUERY })).send();
    assert!(!short.await.unwrap().headers().contains_key("content-encoding"));
}

#[tokio::test]
async fn http_2_is_used_where_the_connection_allows() {
    let app = App::start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let request = client
        .post(app.user("acme-owner").url)
        .bearer_auth(app::token("acme-owner"))
        .json(&json!({ "query": QUERY }));
    let response = request.send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert_eq!(response.json::<Value>().await.unwrap()["data"]["organization"]["name"], "Acme");
}

#[tokio::test]
async fn an_unchanged_schema_is_not_sent_again() {
    let app = App::start().await;
    let url = format!("{}/schema.graphql", app.base);
    let ask = || reqwest::Client::new().get(&url).bearer_auth(app::token("acme-viewer"));
    let first = ask().send().await.unwrap();
    let tag = first.headers()["etag"].clone();
    assert!(first.text().await.unwrap().contains("type Subscription"));
    let again = ask().header("if-none-match", tag).send().await.unwrap();
    assert_eq!((again.status().as_u16(), again.text().await.unwrap()), (304, String::new()));
    let other = ask().header("if-none-match", "\"other\"").send().await.unwrap();
    assert_eq!(other.status(), 200);
}
