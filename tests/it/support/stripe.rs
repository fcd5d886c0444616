//! A fake of Stripe's API that keeps objects, applies posted fields only, records requests and
//! fails on demand.

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
    /// Whether only changes fail.
    fails_posts_only: bool,
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

    /// Returns a client with this secret key.
    pub fn client_with_key(&self, key: &str) -> Stripe {
        client_of_key(&self.base, key)
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
        let mut inner = self.inner.lock().unwrap();
        (inner.failure, inner.fails_posts_only) = (status.map(|status| ("", status)), false);
    }

    /// Makes requests to paths with this prefix fail.
    pub fn fail_path(&self, path: &'static str, status: u16) {
        self.inner.lock().unwrap().failure = Some((path, status));
    }

    /// Makes changes of objects with this prefix fail, while they can still be read.
    pub fn fail_posts(&self, path: &'static str, status: u16) {
        let mut inner = self.inner.lock().unwrap();
        (inner.failure, inner.fails_posts_only) = (Some((path, status)), true);
    }

    /// Returns a subscription as the fake keeps it.
    pub fn subscription(&self, id: &str) -> Value {
        self.inner.lock().unwrap().subscriptions[id].clone()
    }

    pub fn remove_subscription(&self, id: &str) {
        self.inner.lock().unwrap().subscriptions.remove(id);
    }

    pub fn remove_customer(&self, id: &str) {
        self.inner.lock().unwrap().customers.remove(id);
    }

    pub fn set_delay(&self, delay: Duration) {
        self.inner.lock().unwrap().delay = delay;
    }

    pub fn take_requests(&self) -> Vec<RecordedRequest> {
        std::mem::take(&mut self.inner.lock().unwrap().requests)
    }
}

pub fn client_of(base: &str) -> Stripe {
    client_of_key(base, "sk_test")
}

fn client_of_key(base: &str, key: &str) -> Stripe {
    Stripe::new(StripeOptions {
        base: base.parse().unwrap(),
        secret_key: key.to_owned(),
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
    let authorization = headers["authorization"].to_str().unwrap();
    assert!(authorization.starts_with("Bearer sk_") || authorization.starts_with("Bearer rk_"));
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
    let is_failing = !inner.fails_posts_only || method == Method::POST;
    if let Some((_, status)) =
        inner.failure.filter(|(prefix, _)| is_failing && path.starts_with(prefix))
    {
        let body = json!({ "error": { "message": "fails on demand" } });
        return (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response();
    }
    let answer = match path.split_once('/') {
        None if path == "customers" => inner.create_customer(key, &form),
        Some(("customers", id)) => match inner.customers.get(id) {
            Some(customer) => customer.clone(),
            None => return missing(),
        },
        Some(("checkout", _)) if !inner.customers.contains_key(&form["customer"]) => {
            return (StatusCode::BAD_REQUEST, "{}").into_response();
        }
        Some(("checkout", _)) => json!({ "id": "cs_1", "url": "https://checkout.example/cs_1" }),
        Some(("billing_portal", _)) => {
            json!({ "id": "bps_1", "url": "https://portal.example/bps_1" })
        }
        Some(("subscriptions", id)) => {
            let Some(subscription) = inner.subscriptions.get_mut(id) else {
                return missing();
            };
            apply(subscription, &form);
            subscription.clone()
        }
        None if path == "subscriptions" => inner.list_subscriptions(uri.query().unwrap()),
        _ => panic!("no test requests {path}"),
    };
    answer.to_string().into_response()
}

fn missing() -> Response {
    let body = json!({ "error": { "code": "resource_missing", "message": "none" } });
    (StatusCode::NOT_FOUND, body.to_string()).into_response()
}

/// Applies the posted fields, and no others.
fn apply(subscription: &mut Value, form: &HashMap<String, String>) {
    for (field, value) in form {
        match field.as_str() {
            "cancel_at_period_end" => subscription[field] = json!(value == "true"),
            "cancel_at" if value.is_empty() => subscription[field] = Value::Null,
            "items[0][quantity]" => {
                let quantity: u32 = value.parse().unwrap();
                let items = subscription["items"]["data"].as_array_mut().unwrap();
                let item = items.iter_mut().find(|item| item["id"] == form["items[0][id]"]);
                item.unwrap()["quantity"] = json!(quantity);
            }
            "items[0][id]" | "proration_behavior" => {}
            _ => panic!("no test posts {field}"),
        }
    }
}

impl Inner {
    /// Returns the subscriptions of a customer that have not ended, as Stripe does.
    fn list_subscriptions(&self, query: &str) -> Value {
        let wanted: HashMap<String, String> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let listed = self.subscriptions.values().filter(|subscription| {
            subscription["customer"] == wanted["customer"] && subscription["status"] != "canceled"
        });
        json!({ "object": "list", "data": listed.collect::<Vec<_>>() })
    }

    /// Returns the same customer for the same key.
    fn create_customer(&mut self, key: String, form: &HashMap<String, String>) -> Value {
        if let Some(id) = self.created.get(&key) {
            // Even if the customer was deleted since.
            return json!({ "id": id });
        }
        let id = format!("cus_{}", self.created.len().max(self.customers.len()) + 1);
        let metadata = json!({ "organization_id": form["metadata[organization_id]"] });
        let customer = json!({ "id": id, "metadata": metadata });
        self.created.insert(key, id.clone());
        self.customers.insert(id, customer.clone());
        customer
    }
}

/// Returns the signature header for a body, as Stripe computes it.
pub fn signature(secret: &str, at: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    tag.as_ref().iter().fold(format!("t={at},v1="), |header, byte| format!("{header}{byte:02x}"))
}
