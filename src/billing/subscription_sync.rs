//! Writes a subscription as reported by Stripe to the organization's billing, and records the
//! change.

use entity::{SubscriptionStatus, organization_billing, plan_price};
use sea_orm::{ActiveEnum, ActiveModelTrait, IntoActiveModel, Set};
use serde_json::{Value, json};
use stripe::{Event, Status, Subscription};

use crate::{
    audit::{self, Action},
    error::Result,
    plan::{self, Lock},
    tenancy::{Change, UnitOfWork},
};

/// Whether the customer pays for the subscription, or will after the trial.
pub(super) fn is_live(status: SubscriptionStatus) -> bool {
    !matches!(
        status,
        SubscriptionStatus::Canceled
            | SubscriptionStatus::Incomplete
            | SubscriptionStatus::IncompleteExpired
    )
}

/// Whether the organization has a subscription that the customer pays for.
pub(super) fn has_live_subscription(billing: &organization_billing::Model) -> bool {
    billing.stripe_subscription_id.is_some() && is_live(billing.status)
}

/// The status as it is stored.
pub(super) fn status(subscription: &Subscription) -> SubscriptionStatus {
    match subscription.status {
        Status::Active => SubscriptionStatus::Active,
        Status::Trialing => SubscriptionStatus::Trialing,
        Status::PastDue => SubscriptionStatus::PastDue,
        Status::Canceled => SubscriptionStatus::Canceled,
        Status::Unpaid => SubscriptionStatus::Unpaid,
        Status::Incomplete => SubscriptionStatus::Incomplete,
        Status::IncompleteExpired => SubscriptionStatus::IncompleteExpired,
        Status::Paused => SubscriptionStatus::Paused,
    }
}

/// Finds the price that decides the plan. `None` for a subscription to other products.
pub(super) async fn price_of(
    scope: &impl UnitOfWork,
    subscription: &Subscription,
) -> Result<Option<plan_price::Model>> {
    plan::find_price(scope, subscription.items.iter().map(|item| item.price.as_str())).await
}

/// Updates billing to match the subscription. Without a known `price` the plan and the seats stay.
/// The time of the event is stored, so that older events are skipped.
pub(super) async fn write(
    scope: &impl UnitOfWork,
    lock: &Lock,
    subscription: &Subscription,
    price: Option<&plan_price::Model>,
    event: Option<&Event>,
) -> Result<organization_billing::Model> {
    let (before, status) = (lock.billing(), status(subscription));
    let of_price = price.map(|price| subscription.in_period_of(&price.stripe_price_id));
    let subscription = of_price.as_ref().unwrap_or(subscription);
    let mut row = before.clone().into_active_model();
    if before.stripe_customer_id.is_none() {
        row.stripe_customer_id = Set(Some(subscription.customer.clone()));
    }
    row.stripe_subscription_id.set_if_not_equals(Some(subscription.id.clone()));
    let is_same = before.stripe_subscription_id.as_ref() == Some(&subscription.id);
    row.status.set_if_not_equals(status);
    // An unpaid first invoice does not change the plan. An ended subscription keeps the name of its
    // plan.
    match price {
        Some(price) if is_live(status) => {
            row.plan.set_if_not_equals(price.plan.clone());
            row.seats.set_if_not_equals(seats_of(subscription, price));
        }
        _ if !is_live(status) => {
            row.seats.set_if_not_equals(None);
        }
        _ => {}
    }
    row.period_start.set_if_not_equals(subscription.period_start);
    row.period_end.set_if_not_equals(subscription.period_end);
    // A past trial stays on record, because an organization can have only one.
    row.trial_ends_at.set_if_not_equals(subscription.trial_end.or(before.trial_ends_at));
    row.cancel_at_period_end.set_if_not_equals(subscription.cancels);
    row.collection_paused.set_if_not_equals(subscription.collection_paused);
    // Periods go on during a pause, unpaid.
    let paid_until = before.paid_until.filter(|_| is_same);
    row.paid_until.set_if_not_equals(subscription.paid_until.map(|end| paid_until.unwrap_or(end)));
    row.past_due_since.set_if_not_equals(match status {
        SubscriptionStatus::PastDue => {
            let since = event.map_or(scope.now(), |event| event.created);
            Some(before.past_due_since.filter(|_| is_same).unwrap_or(since))
        }
        _ => None,
    });
    if let Some(event) = event {
        row.stripe_event_at = Set(before.stripe_event_at.max(Some(event.created)));
    }
    if row.is_changed() { Ok(row.update(scope).await?) } else { Ok(before.clone()) }
}

/// The quantity of a price per seat.
fn seats_of(subscription: &Subscription, price: &plan_price::Model) -> Option<i32> {
    let item = subscription.items.iter().find(|item| item.price == price.stripe_price_id);
    item.filter(|_| price.per_seat)?.quantity
}

/// Records what Stripe reported, if it changed anything, or should have.
pub(super) async fn record(
    scope: &impl UnitOfWork,
    before: &organization_billing::Model,
    after: &organization_billing::Model,
    mut metadata: Value,
) -> Result<()> {
    let field = |name, value: fn(&organization_billing::Model) -> Value| {
        (name, value(before), value(after))
    };
    let fields = [
        field("status", |billing| json!(billing.status.to_value())),
        field("cancel_at_period_end", |billing| json!(billing.cancel_at_period_end)),
        field("period_end", |billing| json!(billing.period_end)),
        field("trial_ends_at", |billing| json!(billing.trial_ends_at)),
        field("seats", |billing| json!(billing.seats)),
        field("collection_paused", |billing| json!(billing.collection_paused)),
        field("paid_until", |billing| json!(billing.paid_until)),
    ];
    let has_changed = fields.iter().any(|(_, old, new)| old != new);
    let action = if before.plan != after.plan {
        Action::BillingPlanChanged
    } else if has_changed || metadata.get("unknown_price").is_some() {
        Action::BillingSubscriptionUpdated
    } else {
        return Ok(());
    };
    metadata["plan"] = json!(after.plan);
    audit::add_changes(&mut metadata, fields);
    audit::add_changes(&mut metadata, [field("plan", |billing| json!(billing.plan))]);
    scope.note(Change::new(plan::ENTITLEMENTS));
    audit::record(scope, action, Some(after.organization_id.0), metadata).await
}

/// Ends the subscription of an organization: Stripe no longer knows it, or has deleted the
/// customer.
pub(super) async fn end(
    scope: &impl UnitOfWork,
    before: &organization_billing::Model,
    customer: Option<String>,
    event: Option<&Event>,
) -> Result<organization_billing::Model> {
    let mut row = before.clone().into_active_model();
    row.stripe_customer_id.set_if_not_equals(customer);
    if has_live_subscription(before) || before.status == SubscriptionStatus::Incomplete {
        row.status = Set(SubscriptionStatus::Canceled);
        row.seats.set_if_not_equals(None);
        row.past_due_since.set_if_not_equals(None);
        row.collection_paused.set_if_not_equals(false);
        row.paid_until.set_if_not_equals(None);
    }
    if let Some(event) = event {
        row.stripe_event_at = Set(before.stripe_event_at.max(Some(event.created)));
    }
    Ok(row.update(scope).await?)
}
