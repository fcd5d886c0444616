//! The rules of billing without a payment provider. Every change holds the organization's lock.

use entity::{OrganizationId, SubscriptionStatus, organization_billing};
use sea_orm::{ActiveEnum, ActiveModelTrait, EntityTrait, IntoActiveModel, Set};
use serde_json::json;

use super::{
    Settings,
    state::{get_locked, known_plan, record},
    stripe,
    subscription_sync::has_live_subscription,
};
use crate::{
    audit::Action,
    auth::Permission,
    calendar,
    error::{Error, Result},
    plan,
    tenancy::{Fetch as _, Session, UnitOfWork},
};

/// Returns the state of billing.
pub async fn get(session: &Session) -> Result<organization_billing::Model> {
    let tenant = session.authorize(Permission::BillingRead)?;
    organization_billing::Entity::find_by_id(tenant.organization_id)
        .fetch_one(session)
        .await?
        .ok_or(Error::OrganizationNotFound)
}

/// Creates the billing of a new organization: a trial of the operator's trial plan, or the default
/// plan.
pub async fn create(session: &Session, organization_id: OrganizationId) -> Result<()> {
    let row = organization_billing::ActiveModel {
        organization_id: Set(organization_id),
        plan: Set(plan::default_plan(session).await?.plan),
        ..Default::default()
    };
    organization_billing::Entity::insert(row).exec_without_returning(session).await?;
    let Some(trial) = &session.settings().area::<Settings>()?.trial_plan else { return Ok(()) };
    if let Some(plan) = plan::find(session, trial).await?.filter(|plan| !plan.is_default) {
        begin_trial(session, get(session).await?, plan.plan).await?;
    } else {
        // A sign-up is worth more than its trial.
        tracing::warn!(
            plan = trial,
            "TRIAL_PLAN is unknown, archived or the default plan: no trial was started"
        );
    }
    Ok(())
}

/// Requires that the organization pays for no subscription beyond its present period.
///
/// # Errors
///
/// [`Error::Conflict`] if it does.
pub async fn require_deletable(session: &Session) -> Result<()> {
    let billing = get(session).await?;
    if billing.cancel_at_period_end || !has_live_subscription(&billing) {
        return Ok(());
    }
    let message = "The organization has a live subscription. Cancel it first.".to_owned();
    Err(Error::Conflict(message))
}

/// Changes the plan immediately. A smaller plan deletes nothing.
pub(super) async fn change_plan(
    session: &Session,
    plan: &str,
) -> Result<organization_billing::Model> {
    refuse_under_stripe(session)?;
    let before = get_locked(session).await?.billing().clone();
    let plan = known_plan(session, plan).await?.plan;
    let mut row = before.clone().into_active_model();
    row.plan.set_if_not_equals(plan.clone());
    row.status.set_if_not_equals(SubscriptionStatus::Active);
    row.cancel_at_period_end.set_if_not_equals(false);
    row.period_start.set_if_not_equals(None);
    row.period_end.set_if_not_equals(None);
    if !row.is_changed() {
        return Ok(before);
    }
    let after = row.update(session).await?;
    let mut metadata = json!({ "old_plan": before.plan, "plan": plan });
    if before.status != after.status {
        metadata["old_status"] = json!(before.status.to_value());
        metadata["status"] = json!(after.status.to_value());
    }
    record(session, Action::BillingPlanChanged, &after, metadata).await?;
    Ok(after)
}

/// Starts a trial of a plan. An organization can do this once, and only from the default plan.
pub(super) async fn start_trial(
    session: &Session,
    plan: &str,
) -> Result<organization_billing::Model> {
    refuse_under_stripe(session)?;
    let before = get_locked(session).await?.billing().clone();
    let plan = known_plan(session, plan).await?.plan;
    let default = plan::default_plan(session).await?.plan;
    if plan == default {
        return Err(Error::bad_input(
            "input.plan",
            "is the default plan, which needs no trial. Choose another plan.",
        ));
    }
    if before.trial_ends_at.is_some() {
        return Err(Error::Conflict("The organization has already had its trial.".to_owned()));
    }
    if plan::current(session).await?.plan != default {
        return Err(Error::Conflict(
            "The organization already has a plan. A trial can start only from the default plan."
                .to_owned(),
        ));
    }
    begin_trial(session, before, plan).await
}

async fn begin_trial(
    session: &Session,
    before: organization_billing::Model,
    plan: String,
) -> Result<organization_billing::Model> {
    let ends_at = session.now() + session.settings().area::<Settings>()?.trial_term;
    let mut row = before.into_active_model();
    row.plan = Set(plan.clone());
    row.status = Set(SubscriptionStatus::Trialing);
    row.trial_ends_at = Set(Some(ends_at));
    row.cancel_at_period_end = Set(false);
    row.period_start = Set(Some(session.now()));
    row.period_end = Set(Some(ends_at));
    let after = row.update(session).await?;
    let metadata = json!({ "plan": plan, "trial_ends_at": ends_at });
    record(session, Action::BillingTrialStarted, &after, metadata).await?;
    Ok(after)
}

/// Cancels the subscription at the end of its period. Without a period it ends with the calendar
/// month.
pub(super) async fn cancel(session: &Session) -> Result<organization_billing::Model> {
    if let Some(stripe) = &session.settings().area::<Settings>()?.stripe {
        return stripe::set_cancel_at_period_end(session, stripe, true).await;
    }
    let before = get_locked(session).await?.billing().clone();
    if plan::current(session).await?.plan == plan::default_plan(session).await?.plan {
        return Err(Error::Conflict("The organization has no subscription to cancel.".to_owned()));
    }
    if before.cancel_at_period_end {
        return Ok(before);
    }
    let (_, month_end) = calendar::month_of(session.now());
    let period_end = before.period_end.filter(|end| *end > session.now()).unwrap_or(month_end);
    let mut row = before.into_active_model();
    row.cancel_at_period_end = Set(true);
    row.period_end = Set(Some(period_end));
    let after = row.update(session).await?;
    let metadata = json!({ "plan": after.plan, "period_end": period_end });
    record(session, Action::BillingSubscriptionCanceled, &after, metadata).await?;
    Ok(after)
}

/// Withdraws a cancellation that has not taken effect.
pub(super) async fn resume(session: &Session) -> Result<organization_billing::Model> {
    if let Some(stripe) = &session.settings().area::<Settings>()?.stripe {
        return stripe::set_cancel_at_period_end(session, stripe, false).await;
    }
    let before = get_locked(session).await?.billing().clone();
    if !before.cancel_at_period_end {
        return Ok(before);
    }
    // `cancel` set the end of the period for a subscription without one.
    let without_period = before.period_start.is_none();
    if before.period_end.is_none_or(|end| end <= session.now()) {
        return Err(Error::Conflict("The subscription has ended. Choose a plan.".to_owned()));
    }
    let mut row = before.into_active_model();
    row.cancel_at_period_end = Set(false);
    if without_period {
        row.period_end = Set(None);
    }
    let after = row.update(session).await?;
    let metadata = json!({ "plan": after.plan });
    record(session, Action::BillingSubscriptionResumed, &after, metadata).await?;
    Ok(after)
}

/// Refuses to change plans for free where Stripe sells them.
fn refuse_under_stripe(session: &Session) -> Result<()> {
    session.authorize(Permission::BillingManage)?;
    if session.settings().area::<Settings>()?.stripe.is_none() {
        return Ok(());
    }
    let message = "Stripe manages subscriptions. Use `createCheckoutSession` or `createBillingPortalSession`.";
    Err(Error::Conflict(message.to_owned()))
}
