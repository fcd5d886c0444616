//! Writes a subscription as reported by Stripe to the organization's billing, and records the
//! change.

use entity::{SubscriptionStatus, organization_billing};
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};
use serde_json::{Value, json};
use stripe::{Event, Status, Subscription};

use crate::{
    audit::{self, Action},
    error::{Error, Result},
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

/// Updates billing to match the subscription. The time of the event is stored, so that older events
/// are skipped.
pub(super) async fn write(
    scope: &impl UnitOfWork,
    lock: &Lock,
    subscription: &Subscription,
    event: Option<&Event>,
) -> Result<organization_billing::Model> {
    let (before, status) = (lock.billing(), status(subscription));
    let mut row = before.clone().into_active_model();
    if before.stripe_customer_id.is_none() {
        row.stripe_customer_id = Set(Some(subscription.customer.clone()));
    }
    row.stripe_subscription_id.set_if_not_equals(Some(subscription.id.clone()));
    row.status.set_if_not_equals(status);
    // An unpaid first invoice does not change the plan. An ended subscription keeps the name of its
    // plan.
    if is_live(status) {
        row.plan.set_if_not_equals(plan_of(scope, subscription).await?);
    }
    row.period_start.set_if_not_equals(subscription.period_start);
    row.period_end.set_if_not_equals(subscription.period_end);
    // A past trial stays on record, because an organization can have only one.
    row.trial_ends_at.set_if_not_equals(subscription.trial_end.or(before.trial_ends_at));
    row.cancel_at_period_end.set_if_not_equals(subscription.cancels);
    row.past_due_since.set_if_not_equals(match status {
        SubscriptionStatus::PastDue => {
            let since = event.map_or(scope.now(), |event| event.created);
            Some(before.past_due_since.unwrap_or(since))
        }
        _ => None,
    });
    if let Some(event) = event {
        row.stripe_event_at = Set(before.stripe_event_at.max(Some(event.created)));
    }
    if row.is_changed() { Ok(row.update(scope).await?) } else { Ok(before.clone()) }
}

/// Records what an event changed, if anything.
pub(super) async fn record(
    scope: &impl UnitOfWork,
    before: &organization_billing::Model,
    after: &organization_billing::Model,
    event: &Event,
) -> Result<()> {
    let mut metadata = json!({ "event": event.id });
    let mut changed = |name: &str, old: Value, new: Value| {
        let changed = old != new;
        if changed {
            metadata[format!("old_{name}")] = old;
            metadata[name] = new;
        }
        changed
    };
    let plan = changed("plan", json!(before.plan), json!(after.plan));
    let others = [
        changed("status", name(before.status), name(after.status)),
        changed(
            "cancel_at_period_end",
            json!(before.cancel_at_period_end),
            json!(after.cancel_at_period_end),
        ),
        changed("period_end", json!(before.period_end), json!(after.period_end)),
        changed("trial_ends_at", json!(before.trial_ends_at), json!(after.trial_ends_at)),
    ];
    let action = match (plan, others.contains(&true)) {
        (true, _) => Action::BillingPlanChanged,
        (false, true) => Action::BillingSubscriptionUpdated,
        (false, false) => return Ok(()),
    };
    if !plan {
        metadata["plan"] = json!(after.plan);
    }
    scope.note(Change::new(plan::ENTITLEMENTS));
    audit::record(scope, action, Some(after.organization_id.0), metadata).await
}

fn name(status: SubscriptionStatus) -> Value {
    json!(sea_orm::ActiveEnum::to_value(&status))
}

/// Returns the plan sold at the subscription's price, or the highest one if there are several.
async fn plan_of(scope: &impl UnitOfWork, subscription: &Subscription) -> Result<String> {
    match plan::find_by_price(scope, &subscription.prices).await? {
        Some(plan) => Ok(plan.plan),
        None => Err(Error::internal(format!(
            "no plan has the price {}: set it with `tenantry plan price`",
            subscription.prices.join(" or ")
        ))),
    }
}
