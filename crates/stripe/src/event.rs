//! Stripe's events, reduced to the fields that tenantry reads.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Subscription,
    escapes::without_unstorable,
    fields::{organization, reference},
    subscription::time,
};

/// An event from Stripe.
#[derive(Clone, Debug)]
pub struct Event {
    /// Stripe's id of the event.
    pub id: String,
    /// The type, for example `customer.subscription.updated`.
    pub kind: String,
    /// When the event happened, in whole seconds.
    pub created: DateTime<Utc>,
    /// Whether it happened in live mode, and not in test mode. `None` if the event does not say so.
    pub is_live: Option<bool>,
    /// The whole event.
    pub payload: Value,
}

/// The subscription that an event concerns.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Stripe's id of the subscription.
    pub subscription: String,
    /// Stripe's id of the customer.
    pub customer: String,
    /// The organization in the subscription's metadata. It is a hint, because others can write it.
    pub organization: Option<Uuid>,
    /// The subscription at the time of the event, if the event contains it, or what it lacks.
    pub state: Option<Result<Subscription, String>>,
}

/// The time of an event: in seconds, or as text in events of Stripe's API v2.
fn created(value: &Value) -> Option<DateTime<Utc>> {
    time(value).or_else(|| value.as_str()?.parse().ok())
}

impl Event {
    /// Parses an event.
    ///
    /// # Errors
    ///
    /// The field that is missing or not valid.
    pub fn parse(payload: Value) -> Result<Self, String> {
        let missing = |field: &str| format!("the event has no valid field {field}");
        let text = |field: &str| {
            let text = payload[field].as_str().filter(|text| !text.is_empty());
            text.map(ToOwned::to_owned).ok_or_else(|| missing(field))
        };
        Ok(Self {
            id: text("id")?,
            kind: text("type")?,
            created: created(&payload["created"]).ok_or_else(|| missing("created"))?,
            is_live: payload["livemode"].as_bool(),
            payload,
        })
    }

    /// Parses the body of a webhook. Characters that PostgreSQL cannot store are replaced: text
    /// that users enter at Stripe may contain them.
    ///
    /// # Errors
    ///
    /// As [`Event::parse`], or the body is not JSON.
    pub fn from_body(body: &[u8]) -> Result<Self, String> {
        let payload = serde_json::from_str(&without_unstorable(body))
            .map_err(|error| format!("the event is not JSON: {error}"))?;
        Self::parse(payload)
    }

    /// The id of the customer, if the event reports that the customer was deleted.
    #[must_use]
    pub fn deleted_customer(&self) -> Option<String> {
        let object = Some(&self.payload["data"]["object"]);
        reference(object.filter(|_| self.kind == "customer.deleted")?)
    }

    /// The subscription that the event concerns; `None` for other events. It never reads the
    /// `client_reference_id` of a checkout, because the payer chooses it in a payment link.
    #[must_use]
    pub fn subject(&self) -> Option<Subject> {
        let object = &self.payload["data"]["object"];
        let customer = reference(&object["customer"])?;
        if self.kind.starts_with("customer.subscription.") {
            return Some(Subject {
                subscription: reference(object)?,
                customer,
                organization: organization(&object["metadata"]["organization_id"]),
                state: Some(Subscription::parse(object)),
            });
        }
        if self.kind != "checkout.session.completed" {
            return None;
        }
        // Checkouts of other products have no subscription.
        let subscription = reference(&object["subscription"])?;
        Some(Subject { subscription, customer, organization: None, state: None })
    }
}
