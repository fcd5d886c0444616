//! The calls. Whatever creates something carries an idempotency key, so that a repeated call does
//! it once.

use std::{sync::Arc, time::Duration};

use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde_json::Value;
use url::{Url, form_urlencoded};
use uuid::Uuid;

use super::{Subscription, event::organization};
use crate::error::{Error, Result};

/// The version of Stripe's API that requests ask for.
const API_VERSION: &str = "2025-03-31.basil";

/// A person waits for the answer, and a request needs two.
const TIMEOUT: Duration = Duration::from_secs(4);

/// How to reach Stripe.
#[derive(Clone)]
pub struct StripeOptions {
    /// Where the API is.
    pub base: Url,
    /// The secret key.
    pub secret_key: String,
    /// The secrets that webhooks may be signed with: two while one replaces the other.
    pub webhook_secrets: Vec<String>,
}

/// Stripe's API, and the secrets shared with it; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stripe {
    http: reqwest::Client,
    options: Arc<StripeOptions>,
}

/// Without the secrets.
impl std::fmt::Debug for StripeOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StripeOptions")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

/// What somebody is to subscribe to.
#[derive(Debug)]
pub struct Checkout<'request> {
    /// Stripe's id of the customer.
    pub customer: &'request str,
    /// Stripe's id of the price.
    pub price: &'request str,
    /// Whose subscription it is to be. Its events repeat this, which is a hint and proves nothing.
    pub organization: &'request str,
    /// Days without payment at the beginning.
    pub trial_days: Option<i64>,
    /// Where to go after payment.
    pub success_url: &'request str,
    /// Where to go without.
    pub cancel_url: &'request str,
}

/// A page at Stripe's.
#[derive(Debug)]
pub struct Hosted {
    /// Stripe's id of the session.
    pub id: String,
    /// Where to send the browser.
    pub url: String,
}

impl Stripe {
    /// Sets the client up; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn new(options: StripeOptions) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, options: Arc::new(options) })
    }

    /// The secrets that webhooks may be signed with.
    #[must_use]
    pub fn webhook_secrets(&self) -> &[String] {
        &self.options.webhook_secrets
    }

    /// The customer that stands for an organization; the same one when asked again within a day.
    /// `intent` makes a second try of its own, because Stripe repeats an answer for the same key,
    /// also that of a fault of its own.
    ///
    /// # Errors
    ///
    /// When Stripe does not answer, or refuses.
    pub async fn create_customer(&self, organization: &str, intent: &str) -> Result<String> {
        match self.customer_of(organization, "").await {
            Err(Error::Unavailable(_)) => self.replace_customer(organization, intent).await,
            answer => answer,
        }
    }

    /// Another customer for an organization whose customer is gone, or is not its own.
    ///
    /// # Errors
    ///
    /// When Stripe does not answer, or refuses.
    pub async fn replace_customer(&self, organization: &str, intent: &str) -> Result<String> {
        self.customer_of(organization, &format!("-{intent}")).await
    }

    async fn customer_of(&self, organization: &str, attempt: &str) -> Result<String> {
        // The same parameters whenever the key is the same, as Stripe demands: no name, which may
        // change.
        let form = [("metadata[organization_id]", organization)];
        let key = format!("tenantry-customer-{organization}{attempt}");
        text(&self.post("v1/customers", &form, &key).await?, "id")
    }

    /// The organization that a customer was created for, as its metadata says: the secret key can
    /// write that, and a payer cannot. `None` for a customer without it, deleted or unknown.
    ///
    /// # Errors
    ///
    /// When Stripe does not answer, or refuses.
    pub async fn organization_of(&self, customer: &str) -> Result<Option<Uuid>> {
        let path = format!("v1/customers/{}", segment(customer));
        let (status, customer) = receive(self.request(Method::GET, &path)?).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let customer = succeeded(status, customer)?;
        Ok(organization(&customer["metadata"]["organization_id"])
            .filter(|_| customer["deleted"] != true))
    }

    /// A page on which a customer subscribes.
    ///
    /// # Errors
    ///
    /// When Stripe does not answer, or refuses.
    pub async fn create_checkout_session(
        &self,
        checkout: &Checkout<'_>,
        key: &str,
    ) -> Result<Hosted> {
        let trial_days = checkout.trial_days.map(|days| days.to_string());
        let mut form = vec![
            ("mode", "subscription"),
            ("customer", checkout.customer),
            ("line_items[0][price]", checkout.price),
            ("line_items[0][quantity]", "1"),
            ("subscription_data[metadata][organization_id]", checkout.organization),
            ("success_url", checkout.success_url),
            ("cancel_url", checkout.cancel_url),
        ];
        if let Some(days) = &trial_days {
            form.push(("subscription_data[trial_period_days]", days));
        }
        hosted(&self.post("v1/checkout/sessions", &form, key).await?)
    }

    /// A page on which a customer looks after cards, invoices and the subscription.
    ///
    /// # Errors
    ///
    /// When Stripe does not answer, or refuses.
    pub async fn create_portal_session(
        &self,
        customer: &str,
        return_url: &str,
        key: &str,
    ) -> Result<Hosted> {
        let form = [("customer", customer), ("return_url", return_url)];
        hosted(&self.post("v1/billing_portal/sessions", &form, key).await?)
    }

    /// The subscription as it is now.
    ///
    /// # Errors
    ///
    /// When Stripe does not answer, or does not know it.
    pub async fn subscription(&self, id: &str) -> Result<Subscription> {
        let path = format!("v1/subscriptions/{}", segment(id));
        Subscription::parse(&send(self.request(Method::GET, &path)?).await?)
            .map_err(Error::internal)
    }

    /// Lets the subscription end with its period, or go on after all.
    ///
    /// # Errors
    ///
    /// When Stripe does not answer, or refuses.
    pub async fn set_cancel_at_period_end(
        &self,
        id: &str,
        cancel: bool,
        key: &str,
    ) -> Result<Subscription> {
        let path = format!("v1/subscriptions/{}", segment(id));
        let form = [("cancel_at_period_end", if cancel { "true" } else { "false" })];
        Subscription::parse(&self.post(&path, &form, key).await?).map_err(Error::internal)
    }

    async fn post(&self, path: &str, form: &[(&str, &str)], key: &str) -> Result<Value> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self
            .request(Method::POST, path)?
            .header("Idempotency-Key", key)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body);
        send(request).await
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let url = self.options.base.join(path).map_err(Error::internal)?;
        Ok(self
            .http
            .request(method, url)
            .bearer_auth(&self.options.secret_key)
            .header("Stripe-Version", API_VERSION))
    }
}

async fn send(request: RequestBuilder) -> Result<Value> {
    let (status, body) = receive(request).await?;
    succeeded(status, body)
}

async fn receive(request: RequestBuilder) -> Result<(StatusCode, Value)> {
    let unavailable = |error: reqwest::Error| Error::Unavailable(Arc::new(error.without_url()));
    let response = request.send().await.map_err(unavailable)?;
    let status = response.status();
    let body = response.bytes().await.map_err(unavailable)?;
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// Stripe's errors are for the log: what a person can do about them is to try again, or nothing.
fn succeeded(status: StatusCode, body: Value) -> Result<Value> {
    if status.is_success() {
        return Ok(body);
    }
    let message = body["error"]["message"].as_str().unwrap_or("without a message");
    let cause = format!("Stripe answered {status}: {message}");
    // 409: another request with the same key is in progress.
    let passing = status.is_server_error()
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::CONFLICT].contains(&status);
    Err(if passing { Error::unavailable(cause) } else { Error::internal(cause) })
}

fn hosted(session: &Value) -> Result<Hosted> {
    Ok(Hosted { id: text(session, "id")?, url: text(session, "url")? })
}

fn text(object: &Value, field: &str) -> Result<String> {
    let text = object[field].as_str().map(ToOwned::to_owned);
    text.ok_or_else(|| Error::internal(format!("Stripe answered without {field}")))
}

/// An id as one segment of a path, whatever somebody put into an event.
fn segment(id: &str) -> String {
    form_urlencoded::byte_serialize(id.as_bytes()).collect()
}
