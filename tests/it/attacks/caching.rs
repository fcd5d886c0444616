//! Responses for one caller stay out of proxy caches, which could serve them to another.

use std::num::NonZeroU32;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::json;

use crate::support::{App, AppSettings, app::token};

const NAME: &str = "{ organization { name } }";
const HASH: &str = "ecf4edb46db40b5132295c0291d62fb65d6759a9eedfa4d5d612dd5ec54a6b38";

async fn assert_not_cached(request: RequestBuilder, status: u16) {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::from_u16(status).unwrap(), "{response:?}");
    let cached = response.headers().get("cache-control").map(|value| value.to_str().unwrap());
    assert_eq!(cached, Some("no-store"), "{response:?}");
}

#[tokio::test]
async fn no_response_of_the_api_may_be_cached() {
    let app = App::with(AppSettings {
        cors_origins: vec!["https://app.example".parse().unwrap()],
        ..AppSettings::default()
    })
    .await;
    let owner = app.user("acme-owner");
    let http = reqwest::Client::new();
    let post = |query: &str| owner.post().json(&json!({ "query": query }));
    let get = |name: &str, text: &str| owner.get().query(&[(name, text)]);
    let persisted = json!({ "persistedQuery": { "version": 1, "sha256Hash": HASH } }).to_string();
    for (request, status) in [
        (post(NAME), 200),
        (post("{ __schema { queryType { name } } }"), 200),
        (post("{ nothing }"), 400),
        (owner.post().json(&json!([{ "query": NAME }, { "query": NAME }])), 200),
        (get("query", NAME), 200),
        (get("extensions", &persisted), 400),
        (
            http.get(&owner.url)
                .query(&[("query", "{ nothing }")])
                .bearer_auth(token("acme-owner")),
            200,
        ),
        (get("query", "mutation { __typename }"), 405),
        (owner.post().body(NAME), 415),
        (http.get(&owner.url).header("accept", "text/plain"), 406),
        (app.client(Some("acme"), None).get().query(&[("query", NAME)]), 401),
        (
            app.client(Some("nowhere"), Some(token("acme-owner"))).get().query(&[("query", NAME)]),
            404,
        ),
        (http.request(Method::OPTIONS, &owner.url), 200),
        (http.get(format!("{}/schema.graphql", app.base)), 401),
        (http.post(format!("{}/webhooks/stripe", app.base)).body("{}"), 404),
        (http.get(format!("{}/healthz", app.base)), 200),
        (http.get(format!("{}/readyz", app.base)), 200),
        (http.get(format!("{}/graphiql/users.json", app.base)), 200),
        (http.get(format!("{}/nowhere", app.base)), 404),
        (http.get(format!("{}/metrics", app.admin)), 200),
        (http.get(format!("{}/readyz", app.admin)), 200),
        (http.get(format!("{}/nowhere", app.admin)), 404),
    ] {
        assert_not_cached(request, status).await;
    }
    let preflight = http.request(Method::OPTIONS, &owner.url);
    let preflight = preflight.header("origin", "https://app.example");
    assert_not_cached(preflight.header("access-control-request-method", "POST"), 200).await;
}

#[tokio::test]
async fn a_rate_limit_response_is_not_cached() {
    let app =
        App::with(AppSettings { operations: NonZeroU32::MIN, ..AppSettings::default() }).await;
    let owner = app.user("acme-owner");
    owner.data(NAME).await;
    assert_not_cached(owner.get().query(&[("query", NAME)]), 429).await;
}

#[tokio::test]
async fn a_schema_that_requires_a_token_is_private() {
    let app = App::start().await;
    let request = reqwest::Client::new().get(format!("{}/schema.graphql", app.base));
    let response = request.bearer_auth(token("acme-owner")).send().await.unwrap();
    assert_eq!(response.headers()["cache-control"], "private, no-cache");
}

#[tokio::test]
async fn proxies_neither_cache_nor_buffer_streams() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    for query in ["subscription { projectChanged { id } }", NAME, "{ nothing }"] {
        let request = reqwest::Client::new().post(&owner.url).bearer_auth(token("acme-owner"));
        for accept in
            ["text/event-stream", "multipart/mixed;boundary=\"graphql\";subscriptionSpec=\"1.0\""]
        {
            let request = request.try_clone().unwrap().header("accept", accept);
            let response = request.json(&json!({ "query": query })).send().await.unwrap();
            let headers = response.headers();
            assert_eq!(headers["content-type"], accept, "{query}");
            assert_eq!(headers["cache-control"], "no-store", "{query}");
            assert_eq!(headers["x-accel-buffering"], "no", "{query}");
        }
    }
}
