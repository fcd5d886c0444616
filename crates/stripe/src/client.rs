//! Calls to Stripe's API. Calls that create objects send an idempotency key, so that a repeated
//! call has no second effect.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde_json::Value;
use url::{Url, form_urlencoded};
use uuid::Uuid;

use crate::{Error, Result, Subscription, fields::organization};

/// The version of Stripe's API that requests use.
const API_VERSION: &str = "2025-03-31.basil";

/// A user waits for the response, and some requests need two calls.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Address and secrets for Stripe.
#[derive(Clone)]
pub struct StripeOptions {
    /// The base URL of the API.
    pub base: Url,
    /// The secret key.
    pub secret_key: String,
    /// The accepted secrets of webhook signatures; two during a rotation.
    pub webhook_secrets: Vec<String>,
}

/// A client of Stripe's API with its secrets; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stripe {
    http: reqwest::Client,
    options: Arc<StripeOptions>,
}

/// Omits the secrets.
impl std::fmt::Debug for StripeOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StripeOptions")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

/// The parameters of a checkout session.
#[derive(Debug)]
pub struct Checkout<'request> {
    /// Stripe's id of the customer.
    pub customer: &'request str,
    /// Stripe's id of the price.
    pub price: &'request str,
    /// How many units of the price.
    pub quantity: u32,
    /// The organization that subscribes. Stripe repeats it in events, where it is a hint and no
    /// proof.
    pub organization: &'request str,
    /// The length of the trial in days, if there is one.
    pub trial_days: Option<i64>,
    /// The URL to return to after payment.
    pub success_url: &'request str,
    /// The URL to return to without payment.
    pub cancel_url: &'request str,
}

/// A change of the quantity of a subscription's item.
#[derive(Debug)]
pub struct Quantity<'request> {
    /// Stripe's id of the subscription.
    pub subscription: &'request str,
    /// Stripe's id of the item.
    pub item: &'request str,
    /// How many units from now on.
    pub quantity: u32,
    /// How the rest of the period is charged: Stripe's `proration_behavior`.
    pub proration: &'request str,
}

/// A page hosted by Stripe.
#[derive(Debug)]
pub struct Hosted {
    /// Stripe's id of the session.
    pub id: String,
    /// The URL to send the browser to.
    pub url: String,
}

impl Stripe {
    /// Creates the HTTP client; sends nothing.
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

    /// Whether the secret key is of live mode, and not of test mode. `None` if it does not tell.
    #[must_use]
    pub fn is_live(&self) -> Option<bool> {
        match self.options.secret_key.split('_').collect::<Vec<_>>()[..] {
            [_, "live", _, ..] => Some(true),
            [_, "test", _, ..] => Some(false),
            _ => None,
        }
    }

    /// Creates the customer of an organization. Within a day a repeated call returns the same
    /// customer, unless an earlier one was deleted `since`. For a key that it knows Stripe replays
    /// its response, even a server error, so the second try uses a new key with `intent`.
    ///
    /// # Errors
    ///
    /// When Stripe does not respond, or refuses the call.
    pub async fn create_customer(
        &self,
        organization: &str,
        since: Option<DateTime<Utc>>,
        intent: &str,
    ) -> Result<String> {
        let attempt = since.map(|since| format!("-{}", since.timestamp())).unwrap_or_default();
        match self.customer_of(organization, &attempt).await {
            Err(Error::Unavailable(_)) => self.replace_customer(organization, intent).await,
            answer => answer,
        }
    }

    /// Creates another customer for an organization whose customer was deleted or belongs to
    /// another.
    ///
    /// # Errors
    ///
    /// When Stripe does not respond, or refuses the call.
    pub async fn replace_customer(&self, organization: &str, intent: &str) -> Result<String> {
        self.customer_of(organization, &format!("-{intent}")).await
    }

    async fn customer_of(&self, organization: &str, attempt: &str) -> Result<String> {
        // Stripe demands equal parameters for equal keys, so the organization's name, which may
        // change, is not sent.
        let form = [("metadata[organization_id]", organization)];
        let key = format!("tenantry-customer-{organization}{attempt}");
        text(&self.post("v1/customers", &form, &key).await?, "id")
    }

    /// The organization that a customer was created for, according to its metadata, which only
    /// holders of the secret key can write. `None` if the customer is unknown, deleted, or has no
    /// such metadata.
    ///
    /// # Errors
    ///
    /// When Stripe does not respond, or refuses the call.
    pub async fn organization_of(&self, customer: &str) -> Result<Option<Uuid>> {
        let customer = self.find(&format!("v1/customers/{}", segment(customer))).await?;
        let customer = customer.filter(|customer| customer["deleted"] != true);
        Ok(customer.and_then(|customer| organization(&customer["metadata"]["organization_id"])))
    }

    /// Creates a checkout page, on which the customer subscribes.
    ///
    /// # Errors
    ///
    /// When Stripe does not respond, or refuses the call.
    pub async fn create_checkout_session(
        &self,
        checkout: &Checkout<'_>,
        key: &str,
    ) -> Result<Hosted> {
        let trial_days = checkout.trial_days.map(|days| days.to_string());
        let quantity = checkout.quantity.to_string();
        let mut form = vec![
            ("mode", "subscription"),
            ("customer", checkout.customer),
            ("line_items[0][price]", checkout.price),
            ("line_items[0][quantity]", &quantity),
            ("subscription_data[metadata][organization_id]", checkout.organization),
            ("success_url", checkout.success_url),
            ("cancel_url", checkout.cancel_url),
        ];
        if let Some(days) = &trial_days {
            form.push(("subscription_data[trial_period_days]", days));
        }
        hosted(&self.post("v1/checkout/sessions", &form, key).await?)
    }

    /// Creates a portal page, on which the customer manages cards, invoices and the subscription.
    ///
    /// # Errors
    ///
    /// When Stripe does not respond, or refuses the call.
    pub async fn create_portal_session(
        &self,
        customer: &str,
        return_url: &str,
        key: &str,
    ) -> Result<Hosted> {
        let form = [("customer", customer), ("return_url", return_url)];
        hosted(&self.post("v1/billing_portal/sessions", &form, key).await?)
    }

    /// The current state of a subscription. `None` if Stripe does not know it.
    ///
    /// # Errors
    ///
    /// When Stripe does not respond, or refuses the call.
    pub async fn subscription(&self, id: &str) -> Result<Option<Subscription>> {
        self.find(&subscription_path(id)).await?.as_ref().map(parse).transpose()
    }

    /// The subscriptions of a customer that have not ended, without those that cannot be read.
    ///
    /// # Errors
    ///
    /// When Stripe does not respond, or refuses the call.
    pub async fn subscriptions_of(&self, customer: &str) -> Result<Vec<Subscription>> {
        let path = format!("v1/subscriptions?customer={}&limit=100", segment(customer));
        let page = self.find(&path).await?.unwrap_or_default();
        let listed = page["data"].as_array().into_iter().flatten();
        Ok(listed.filter_map(|subscription| parse(subscription).ok()).collect())
    }

    /// Cancels a subscription at the end of its period, or withdraws a cancellation, whether it is
    /// for the end of the period or for a certain time. Returns the subscription as it is then,
    /// which is unchanged if it has ended, and `None` if Stripe does not know it. The period is
    /// that of the first of `prices` that the subscription has.
    ///
    /// # Errors
    ///
    /// When Stripe does not respond, or refuses the call.
    pub async fn set_cancellation(
        &self,
        id: &str,
        cancel: bool,
        prices: &[String],
        key: &str,
    ) -> Result<Option<Subscription>> {
        let path = subscription_path(id);
        let Some(mut object) = self.find(&path).await? else { return Ok(None) };
        let now = parse(&object)?;
        if now.cancels_with(prices) == cancel || now.has_ended() {
            return Ok(Some(now));
        }
        let fields: &[(&str, &str)] = if cancel {
            &[("cancel_at_period_end", "true")]
        } else {
            &[("cancel_at_period_end", "false"), ("cancel_at", "")]
        };
        for (field, value) in fields {
            let is_set = object[*field] == true || object[*field].is_i64();
            if is_set == cancel {
                continue;
            }
            match self.post(&path, &[(field, value)], &format!("{key}-{field}")).await {
                Ok(changed) => object = changed,
                // It may have ended since it was read.
                Err(Error::Invalid(problem)) => {
                    let now = self.subscription(id).await?;
                    let has_ended = now.as_ref().is_none_or(Subscription::has_ended);
                    return if has_ended { Ok(now) } else { Err(Error::Invalid(problem)) };
                }
                Err(error) => return Err(error),
            }
        }
        parse(&object).map(Some)
    }

    /// Sets the quantity of an item, and returns the subscription.
    ///
    /// # Errors
    ///
    /// When Stripe does not respond, or refuses the call.
    pub async fn set_quantity(&self, change: &Quantity<'_>, key: &str) -> Result<Subscription> {
        let form = [
            ("items[0][id]", change.item),
            ("items[0][quantity]", &change.quantity.to_string()),
            ("proration_behavior", change.proration),
        ];
        parse(&self.post(&subscription_path(change.subscription), &form, key).await?)
    }

    /// Reads an object. `None` if it does not exist.
    async fn find(&self, path: &str) -> Result<Option<Value>> {
        let (status, object) = receive(self.request(Method::GET, path)?).await?;
        // A proxy, or a wrong address, can cause a 404 too.
        let is_missing = status == StatusCode::NOT_FOUND
            && object["error"]["code"].as_str() == Some("resource_missing");
        if is_missing { Ok(None) } else { succeeded(status, object).map(Some) }
    }

    async fn post(&self, path: &str, form: &[(&str, &str)], key: &str) -> Result<Value> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self
            .request(Method::POST, path)?
            .header("Idempotency-Key", key)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body);
        let (status, body) = receive(request).await?;
        succeeded(status, body)
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let url =
            self.options.base.join(path).map_err(|error| Error::Refused(error.to_string()))?;
        Ok(self
            .http
            .request(method, url)
            .bearer_auth(&self.options.secret_key)
            .header("Stripe-Version", API_VERSION))
    }
}

async fn receive(request: RequestBuilder) -> Result<(StatusCode, Value)> {
    let unavailable = |error: reqwest::Error| Error::Unavailable(error.without_url().into());
    let response = request.send().await.map_err(unavailable)?;
    let status = response.status();
    let body = response.bytes().await.map_err(unavailable)?;
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// Returns the body of a success. Stripe's error messages are for the log: a user can only retry,
/// or do nothing.
fn succeeded(status: StatusCode, body: Value) -> Result<Value> {
    if status.is_success() {
        return Ok(body);
    }
    let message = body["error"]["message"].as_str().unwrap_or("no error message");
    let cause = format!("Stripe returned {status}: {message}");
    // 409: another request with the same key is in progress.
    let passing = status.is_server_error()
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::CONFLICT].contains(&status);
    let invalid = [StatusCode::BAD_REQUEST, StatusCode::PAYMENT_REQUIRED, StatusCode::NOT_FOUND];
    Err(match cause {
        cause if passing => Error::Unavailable(cause.into()),
        cause if invalid.contains(&status) => Error::Invalid(cause),
        cause => Error::Refused(cause),
    })
}

fn parse(subscription: &Value) -> Result<Subscription> {
    Subscription::parse(subscription).map_err(Error::Unreadable)
}

fn subscription_path(id: &str) -> String {
    format!("v1/subscriptions/{}", segment(id))
}

fn hosted(session: &Value) -> Result<Hosted> {
    Ok(Hosted { id: text(session, "id")?, url: text(session, "url")? })
}

fn text(object: &Value, field: &str) -> Result<String> {
    let text = object[field].as_str().map(ToOwned::to_owned);
    text.ok_or_else(|| Error::Refused(format!("Stripe's response has no field {field}")))
}

/// An id as one path segment. Ids come from events, so they may contain any character.
fn segment(id: &str) -> String {
    form_urlencoded::byte_serialize(id.as_bytes()).collect()
}
