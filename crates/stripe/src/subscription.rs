//! Stripe's subscriptions, reduced to the fields that tenantry reads.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::fields::reference;

/// The status of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Active,
    Trialing,
    PastDue,
    Canceled,
    Unpaid,
    Incomplete,
    IncompleteExpired,
    Paused,
}

/// What a subscription sells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Stripe's id of the item.
    pub id: String,
    /// Stripe's id of the price.
    pub price: String,
    /// How many units; metered prices have none.
    pub quantity: Option<i32>,
}

/// A subscription at one point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Stripe's id.
    pub id: String,
    /// Stripe's id of the customer.
    pub customer: String,
    /// Its status.
    pub status: Status,
    /// The subscribed prices.
    pub items: Vec<Item>,
    /// When the current period started.
    pub period_start: Option<DateTime<Utc>>,
    /// When the current period ends, or the subscription does, if that is earlier.
    pub period_end: Option<DateTime<Utc>>,
    /// When the trial ends or ended.
    pub trial_end: Option<DateTime<Utc>>,
    /// Whether the subscription ends with the current period: there will be no other payment.
    pub cancels: bool,
    /// Whether the collection of payments is paused.
    pub collection_paused: bool,
    /// When the current period ends, if invoices are voided meanwhile: nothing after it is paid.
    pub paid_until: Option<DateTime<Utc>>,
}

impl Subscription {
    /// Parses a subscription of any API version.
    ///
    /// # Errors
    ///
    /// The field that is missing or not valid.
    pub fn parse(object: &Value) -> Result<Self, String> {
        let items = object["items"]["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        // Since version 2025-03-31 the items have periods, not the subscription.
        let period = |field: &str| {
            time(&object[field]).or_else(|| items.iter().find_map(|item| time(&item[field])))
        };
        // Older versions have plans instead of prices; both have an id.
        let item = |item: &Value| {
            Some(Item {
                id: reference(item).unwrap_or_default(),
                price: reference(&item["price"]).or_else(|| reference(&item["plan"]))?,
                quantity: item["quantity"].as_i64().and_then(|number| i32::try_from(number).ok()),
            })
        };
        let cancel_at = time(&object["cancel_at"]);
        let current_end = period("current_period_end");
        let pause = &object["pause_collection"]["behavior"];
        let status = object["status"].clone();
        Ok(Self {
            id: reference(object).ok_or("the subscription has no id")?,
            customer: reference(&object["customer"]).ok_or("the subscription has no customer")?,
            status: serde_json::from_value(status.clone())
                .map_err(|_| format!("the subscription has the unknown status {status}"))?,
            items: items.iter().filter_map(item).collect(),
            period_start: period("current_period_start"),
            period_end: cancel_at.into_iter().chain(current_end).min(),
            trial_end: time(&object["trial_end"]),
            cancels: object["cancel_at_period_end"] == true
                || cancel_at.is_some_and(|at| current_end.is_none_or(|end| at <= end)),
            collection_paused: pause.is_string(),
            paid_until: current_end.filter(|_| *pause == "void"),
        })
    }

    /// Whether the subscription has ended permanently.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.status, Status::Canceled | Status::IncompleteExpired)
    }

    /// The subscribed prices, as text for operators.
    #[must_use]
    pub fn prices(&self) -> String {
        let prices: Vec<_> = self.items.iter().map(|item| item.price.as_str()).collect();
        prices.join(" or ")
    }
}

/// A time of the years 1970 to 9999, in seconds.
pub(super) fn time(value: &Value) -> Option<DateTime<Utc>> {
    let seconds = value.as_i64().filter(|seconds| (0..253_402_300_800).contains(seconds))?;
    DateTime::from_timestamp(seconds, 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn old_and_new_versions_of_the_api_say_the_same() {
        let mut old = json!({
            "id": "sub_1", "customer": "cus_1", "status": "past_due", "cancel_at_period_end": true,
            "current_period_start": 1_893_456_000, "current_period_end": 1_896_134_400, "trial_end": null,
            "items": { "data": [{ "plan": { "id": "price_1" } }] },
            "metadata": { "organization_id": "00000000-0000-4000-8000-00000000000b" },
        });
        let of_old = Subscription::parse(&old).unwrap();
        let new = json!({
            "id": "sub_1", "customer": { "id": "cus_1" }, "status": "past_due", "cancel_at_period_end": false,
            "cancel_at": 1_896_134_400, "metadata": old["metadata"],
            "items": { "data": [{
                "price": { "id": "price_1" },
                "current_period_start": 1_893_456_000, "current_period_end": 1_896_134_400,
            }] },
        });
        assert_eq!(Subscription::parse(&new).unwrap(), of_old);
        assert_eq!(of_old.period_end.unwrap().to_string(), "2030-02-01 00:00:00 UTC");
        old["cancel_at_period_end"] = json!(false);
        old["cancel_at"] = json!(1_927_670_400);
        let later = Subscription::parse(&old).unwrap();
        assert!(!later.cancels, "it is renewed before it ends");
        assert_eq!(later.period_end, of_old.period_end);
        old["status"] = json!("on_fire");
        assert!(Subscription::parse(&old).unwrap_err().contains("on_fire"));
    }
}
