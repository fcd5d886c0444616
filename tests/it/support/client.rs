//! A client that sends requests.

use reqwest::{RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

/// A user at a URL.
#[derive(Clone)]
pub struct Client {
    pub url: String,
    token: Option<String>,
    http: reqwest::Client,
}

/// A response.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Client {
    pub fn new(url: String, token: Option<String>) -> Self {
        // Without root certificates: an unoptimized build takes long to read those of the system.
        let http = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
        Self { url, token, http }
    }

    /// Returns a POST request without a body.
    pub fn post(&self) -> RequestBuilder {
        self.authorized(self.http.post(&self.url))
            .header("accept", "application/graphql-response+json")
    }

    pub fn get(&self) -> RequestBuilder {
        self.authorized(self.http.get(&self.url))
            .header("accept", "application/graphql-response+json")
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn query(&self, query: &str) -> Reply {
        self.send(&json!({ "query": query })).await
    }

    pub async fn query_with(&self, query: &str, variables: Value) -> Reply {
        self.send(&json!({ "query": query, "variables": variables })).await
    }

    pub async fn send(&self, body: &Value) -> Reply {
        Reply::of(self.post().json(body)).await
    }

    /// Returns the data of a query that must succeed.
    pub async fn data(&self, query: &str) -> Value {
        self.query(query).await.data()
    }
}

impl Reply {
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, headers, text, body }
    }

    /// Returns the data of a response that must have no errors.
    #[track_caller]
    pub fn data(self) -> Value {
        assert!(self.body.get("errors").is_none(), "{self:?}");
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.body["data"].clone()
    }

    /// Returns whether this is the stored response of an earlier request.
    pub fn is_replay(&self) -> bool {
        self.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
    }

    /// Returns the codes of all errors.
    pub fn codes(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().map_or(&[][..], Vec::as_slice);
        errors.iter().map(|error| error["extensions"]["code"].as_str().unwrap_or("none")).collect()
    }

    /// Asserts that the request was rejected before execution, with this status and code.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.codes()), (status, vec![code]), "{self:?}");
        assert!(self.body.get("data").is_none(), "{self:?}");
    }

    /// Asserts that the request was executed and failed with this code.
    #[track_caller]
    pub fn assert_failed(&self, code: &str) {
        assert_eq!((self.status.as_u16(), self.codes()), (200, vec![code]), "{self:?}");
        assert_eq!(self.body.get("data"), Some(&Value::Null), "{self:?}");
    }
}
