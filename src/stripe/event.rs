//! Events, as far as tenantry reads them.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::Subscription;

/// Something that happened at Stripe's.
#[derive(Clone, Debug)]
pub struct Event {
    /// Stripe's id of the event.
    pub id: String,
    /// For example `customer.subscription.updated`.
    pub kind: String,
    /// When it happened, in whole seconds.
    pub created: DateTime<Utc>,
    /// All of it.
    pub payload: Value,
}

/// The subscription that an event is about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Stripe's id of the subscription.
    pub subscription: String,
    /// Stripe's id of the customer.
    pub customer: String,
    /// The organization that the subscription's metadata names: a hint, because others can write
    /// it.
    pub organization: Option<Uuid>,
    /// The subscription as it was then, where the event shows it, or what it lacks.
    pub state: Option<Result<Subscription, String>>,
}

impl Event {
    /// Reads an event.
    ///
    /// # Errors
    ///
    /// What it lacks.
    pub fn parse(payload: Value) -> Result<Self, String> {
        let text = |field: &str| {
            let text =
                payload[field].as_str().filter(|text| !text.is_empty() && !text.contains('\0'));
            text.map(ToOwned::to_owned).ok_or_else(|| format!("the event has no {field}"))
        };
        let created =
            payload["created"].as_i64().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        Ok(Self {
            id: text("id")?,
            kind: text("type")?,
            created: created.ok_or("the event has no created")?,
            payload,
        })
    }

    /// The subscription that it is about; `None` when it is about something else. The
    /// `client_reference_id` of a checkout is never read: the payer chooses that of a payment link.
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
        // A checkout that sold something else has no subscription.
        let subscription = reference(&object["subscription"])?;
        Some(Subject { subscription, customer, organization: None, state: None })
    }
}

/// An id, or the object with that id.
pub(super) fn reference(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["id"].as_str()).map(ToOwned::to_owned)
}

pub(super) fn organization(value: &Value) -> Option<Uuid> {
    value.as_str().and_then(|text| Uuid::try_parse(text).ok())
}
