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
    /// The current period, if the item has its own.
    period: Period,
}

/// The start and the end of a period.
type Period = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

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
    terms: Terms,
}

/// What a period is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Terms {
    cancel_at: Option<DateTime<Utc>>,
    cancel_at_period_end: bool,
    voids_invoices: bool,
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
        let period =
            |of: &Value| (time(&of["current_period_start"]), time(&of["current_period_end"]));
        let has_end = |period: &Period| period.1.is_some();
        let own = Some(period(object)).filter(has_end);
        let current = own.or_else(|| items.iter().map(period).find(has_end)).unwrap_or_default();
        // Older versions have plans instead of prices; both have an id.
        let item = |item: &Value| {
            Some(Item {
                id: reference(item).unwrap_or_default(),
                price: reference(&item["price"]).or_else(|| reference(&item["plan"]))?,
                quantity: item["quantity"].as_i64().and_then(|number| i32::try_from(number).ok()),
                period: period(item),
            })
        };
        let pause = &object["pause_collection"]["behavior"];
        let status = object["status"].clone();
        let subscription = Self {
            id: reference(object).ok_or("the subscription has no id")?,
            customer: reference(&object["customer"]).ok_or("the subscription has no customer")?,
            status: serde_json::from_value(status.clone())
                .map_err(|_| format!("the subscription has the unknown status {status}"))?,
            items: items.iter().filter_map(item).collect(),
            period_start: None,
            period_end: None,
            trial_end: time(&object["trial_end"]),
            cancels: false,
            collection_paused: pause.is_string(),
            paid_until: None,
            terms: Terms {
                cancel_at: time(&object["cancel_at"]),
                cancel_at_period_end: object["cancel_at_period_end"] == true,
                voids_invoices: *pause == "void",
            },
        };
        Ok(subscription.in_period(current))
    }

    /// The subscription in the period of the item with this price. Items that are paid at different
    /// intervals have different periods.
    #[must_use]
    pub fn in_period_of(&self, price: &str) -> Self {
        let item = self.items.iter().find(|item| item.price == price);
        match item.map(|item| item.period).filter(|(_, end)| end.is_some()) {
            Some(period) => self.clone().in_period(period),
            None => self.clone(),
        }
    }

    /// The item with the first of these prices that the subscription has.
    #[must_use]
    pub fn first_item(&self, prices: &[String]) -> Option<&Item> {
        prices.iter().find_map(|price| self.items.iter().find(|item| item.price == *price))
    }

    /// Whether the subscription ends with the period of the first of these prices that it has.
    #[must_use]
    pub fn cancels_with(&self, prices: &[String]) -> bool {
        let item = self.first_item(prices);
        item.map_or(self.cancels, |item| self.in_period_of(&item.price).cancels)
    }

    fn in_period(self, (start, end): Period) -> Self {
        let Terms { cancel_at, cancel_at_period_end, voids_invoices } = self.terms;
        Self {
            period_start: start,
            period_end: cancel_at.into_iter().chain(end).min(),
            cancels: cancel_at_period_end
                || cancel_at.is_some_and(|at| end.is_none_or(|end| at <= end)),
            paid_until: end.filter(|_| voids_invoices),
            ..self
        }
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
        let of_new = Subscription::parse(&new).unwrap();
        assert_eq!(
            (of_new.period_start, of_new.period_end),
            (of_old.period_start, of_old.period_end)
        );
        assert!(of_new.cancels && of_old.cancels);
        assert_eq!(of_new.items[0].price, of_old.items[0].price);
        assert_eq!(of_old.period_end.unwrap().to_string(), "2030-02-01 00:00:00 UTC");
        old["cancel_at_period_end"] = json!(false);
        old["cancel_at"] = json!(1_927_670_400);
        let later = Subscription::parse(&old).unwrap();
        assert!(!later.cancels, "it is renewed before it ends");
        assert_eq!(later.period_end, of_old.period_end);
        old["status"] = json!("on_fire");
        assert!(Subscription::parse(&old).unwrap_err().contains("on_fire"));
    }

    #[test]
    fn items_with_different_intervals_have_different_periods() {
        let item =
            |price: &str, end: i64| json!({ "price": { "id": price }, "current_period_end": end });
        let both = Subscription::parse(&json!({
            "id": "sub_1", "customer": "cus_1", "status": "active", "cancel_at": 1_900_000_000,
            "items": { "data": [item("price_month", 1_896_134_400), item("price_year", 1_924_992_000)] },
        }));
        let both = both.unwrap();
        assert!(!both.cancels && !both.in_period_of("price_month").cancels);
        let of_year = both.in_period_of("price_year");
        assert!(of_year.cancels);
        assert_eq!(of_year.period_end, DateTime::from_timestamp(1_900_000_000, 0));
        assert_eq!(both.in_period_of("price_other"), both);
    }
}
