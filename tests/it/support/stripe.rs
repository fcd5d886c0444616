//! A fake of Stripe's API that records requests and fails on demand.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::hmac;
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::any,
};
use serde_json::{Value, json};
use stripe::{Stripe, StripeOptions};

pub const WEBHOOK_SECRET: &str = "whsec_test";

/// A recorded request.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    pub path: String,
    pub key: String,
    pub form: HashMap<String, String>,
}

#[derive(Default)]
struct Inner {
    requests: Vec<RecordedRequest>,
    subscriptions: HashMap<String, Value>,
    customers: HashMap<String, Value>,
    /// The customers by the idempotency keys of their creation.
    created: HashMap<String, String>,
    /// The prefix of the paths that fail, and the status.
    failure: Option<(&'static str, u16)>,
    delay: Duration,
}

/// The fake, which runs as long as the test.
#[derive(Clone)]
pub struct FakeStripe {
    base: String,
    inner: Arc<Mutex<Inner>>,
}

impl FakeStripe {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let inner = Arc::new(Mutex::new(Inner::default()));
        let app = Router::new().route("/v1/{*path}", any(answer)).with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { base, inner }
    }

    /// Returns the base URL, for the program.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Returns the client for a server's rules.
    pub fn client(&self) -> Stripe {
        client_of(&self.base)
    }

    /// Sets the subscription that the fake returns.
    pub fn set_subscription(&self, subscription: &Value) {
        let id = subscription["id"].as_str().unwrap().to_owned();
        self.inner.lock().unwrap().subscriptions.insert(id, subscription.clone());
    }

    /// Adds a customer with the organization in its metadata.
    pub fn add_customer(&self, id: &str, organization: Option<&str>) {
        let metadata = organization.map_or(json!({}), |id| json!({ "organization_id": id }));
        let customer = json!({ "id": id, "metadata": metadata });
        self.inner.lock().unwrap().customers.insert(id.to_owned(), customer);
    }

    pub fn set_failure(&self, status: Option<u16>) {
        self.inner.lock().unwrap().failure = status.map(|status| ("", status));
    }

    /// Makes requests to paths with this prefix fail.
    pub fn fail_path(&self, path: &'static str, status: u16) {
        self.inner.lock().unwrap().failure = Some((path, status));
    }

    pub fn set_delay(&self, delay: Duration) {
        self.inner.lock().unwrap().delay = delay;
    }

    pub fn take_requests(&self) -> Vec<RecordedRequest> {
        std::mem::take(&mut self.inner.lock().unwrap().requests)
    }
}

pub fn client_of(base: &str) -> Stripe {
    Stripe::new(StripeOptions {
        base: base.parse().unwrap(),
        secret_key: "sk_test".to_owned(),
        webhook_secrets: vec![WEBHOOK_SECRET.to_owned()],
    })
    .unwrap()
}

async fn answer(
    State(inner): State<Arc<Mutex<Inner>>>,
    Path(path): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    assert_eq!(headers["authorization"], "Bearer sk_test");
    assert!(uri.query().is_none());
    let form: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    let key = headers.get("idempotency-key").map_or("", |key| key.to_str().unwrap()).to_owned();
    assert_eq!(key.is_empty(), method == Method::GET, "every creation has an idempotency key");
    let delay = {
        let mut inner = inner.lock().unwrap();
        inner.requests.push(RecordedRequest {
            path: path.clone(),
            key: key.clone(),
            form: form.clone(),
        });
        inner.delay
    };
    tokio::time::sleep(delay).await;
    let mut inner = inner.lock().unwrap();
    if let Some((_, status)) = inner.failure.filter(|(prefix, _)| path.starts_with(prefix)) {
        let body = json!({ "error": { "message": "fails on demand" } });
        return (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response();
    }
    let answer = match path.split_once('/') {
        None if path == "customers" => inner.create_customer(key, &form),
        Some(("customers", id)) => match inner.customers.get(id) {
            Some(customer) => customer.clone(),
            None => return (StatusCode::NOT_FOUND, "{}").into_response(),
        },
        Some(("checkout", _)) => json!({ "id": "cs_1", "url": "https://checkout.example/cs_1" }),
        Some(("billing_portal", _)) => {
            json!({ "id": "bps_1", "url": "https://portal.example/bps_1" })
        }
        Some(("subscriptions", id)) => {
            let Some(subscription) = inner.subscriptions.get_mut(id) else {
                return (
                    StatusCode::NOT_FOUND,
                    json!({ "error": { "message": "none" } }).to_string(),
                )
                    .into_response();
            };
            if let Some(cancel) = form.get("cancel_at_period_end") {
                subscription["cancel_at_period_end"] = json!(cancel == "true");
            }
            subscription.clone()
        }
        _ => panic!("no test requests {path}"),
    };
    answer.to_string().into_response()
}

impl Inner {
    /// Returns the same customer for the same key.
    fn create_customer(&mut self, key: String, form: &HashMap<String, String>) -> Value {
        let next = format!("cus_{}", self.customers.len() + 1);
        let id = self.created.entry(key).or_insert(next).clone();
        let metadata = json!({ "organization_id": form["metadata[organization_id]"] });
        let customer = json!({ "id": id, "metadata": metadata });
        self.customers.entry(id).or_insert(customer).clone()
    }
}

/// Returns the signature header for a body, as Stripe computes it.
pub fn signature(secret: &str, at: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    tag.as_ref().iter().fold(format!("t={at},v1="), |header, byte| format!("{header}{byte:02x}"))
}
