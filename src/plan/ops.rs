//! The rules of plans: which plan is in effect, and the lock under which counts are exact.

use chrono::{DateTime, Duration, Utc};
use entity::{PlanTerms, SubscriptionStatus, organization_billing, plan};
use sea_orm::{
    ColumnTrait, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, Select,
    sea_query::LockType,
};
use tokio::try_join;

use super::Settings;
use crate::{
    error::{Error, Result},
    sql::{sql, value_of},
    tenancy::{Fetch as _, Session, UnitOfWork},
};

/// The topic of changes to the plan's limits, or to their use.
pub const ENTITLEMENTS: &str = "entitlements";

/// Proof that the organization's lock is held until the transaction ends.
#[derive(Debug)]
pub struct Lock {
    billing: organization_billing::Model,
}

impl Lock {
    /// The locked row, which is the state of billing.
    pub fn billing(&self) -> &organization_billing::Model {
        &self.billing
    }
}

/// Takes the organization's lock, then reads the caller's role again. It may have changed during
/// the wait.
pub async fn lock(session: &Session) -> Result<Lock> {
    // Both statements are sent together and executed in this order.
    let (lock, ()) = try_join!(biased; lock_alone(session), session.refresh_role())?;
    Ok(lock)
}

/// Takes the organization's lock before a lock on another row, if the operation makes several
/// changes. Two operations that lock the same rows in different orders then wait for each other,
/// instead of ending in a deadlock.
pub async fn lock_if_several_changes(session: &Session) -> Result<()> {
    if session.makes_several_changes() {
        lock(session).await?;
    }
    Ok(())
}

/// Takes the organization's lock without reading a role. For users who are about to become members,
/// and for background work.
pub async fn lock_alone(scope: &impl UnitOfWork) -> Result<Lock> {
    let organization_id = scope.organization_id()?;
    let billing = organization_billing::Entity::find_by_id(organization_id)
        .lock(LockType::NoKeyUpdate)
        .fetch_one(scope)
        .await?
        .ok_or(Error::OrganizationNotFound)?;
    Ok(Lock { billing })
}

/// Returns a digest that changes whenever the catalogue does.
pub async fn fingerprint(session: &impl UnitOfWork) -> Result<String> {
    let fingerprint = sql(
        "SELECT md5(coalesce((SELECT string_agg(f::text, ',' ORDER BY f.feature) FROM features f), '')
                 || coalesce((SELECT string_agg(p::text, ',' ORDER BY p.plan) FROM plans p), '')
                 || coalesce((SELECT string_agg(f::text, ',' ORDER BY f.plan, f.feature) FROM plan_features f), '')) AS md5",
        [],
    );
    value_of(session, "md5", fingerprint).await
}

/// Returns the plan in effect for the current organization.
pub async fn current(session: &impl UnitOfWork) -> Result<plan::Model> {
    let organization_id = session.organization_id()?;
    let plan_of_billing = organization_billing::Entity::belongs_to(plan::Entity)
        .from(organization_billing::Column::Plan)
        .to(plan::Column::Plan);
    let (billing, plan) = organization_billing::Entity::find_by_id(organization_id)
        .join(JoinType::LeftJoin, plan_of_billing.into())
        .select_also(plan::Entity)
        .fetch_one(session)
        .await?
        .ok_or(Error::OrganizationNotFound)?;
    let grace = grace(session)?;
    match plan {
        Some(plan) if own_plan_counts(&(&billing).into(), session.now(), grace) => Ok(plan),
        _ => default_plan(session).await,
    }
}

/// Finds a plan that is offered, by its key.
pub async fn find(session: &impl UnitOfWork, plan: &str) -> Result<Option<plan::Model>> {
    // PostgreSQL rejects text with this character.
    if plan.contains('\0') {
        return Ok(None);
    }
    Ok(offered().filter(plan::Column::Plan.eq(plan)).fetch_one(session).await?)
}

/// Lists the plans that are offered, cheapest first.
pub(super) async fn list(session: &Session) -> Result<Vec<plan::Model>> {
    Ok(offered().order_by_asc(plan::Column::Position).fetch(session).await?)
}

fn offered() -> Select<plan::Entity> {
    plan::Entity::find().filter(plan::Column::ArchivedAt.is_null())
}

/// Returns the key of the plan in effect.
pub(super) async fn effective_plan(
    session: &impl UnitOfWork,
    billing: &organization_billing::Model,
) -> Result<String> {
    if is_own_plan_in_effect(session, billing)? {
        Ok(billing.plan.clone())
    } else {
        Ok(default_plan(session).await?.plan)
    }
}

/// Returns whether the organization's own plan is in effect, and not the default.
pub fn is_own_plan_in_effect(
    session: &impl UnitOfWork,
    billing: &organization_billing::Model,
) -> Result<bool> {
    Ok(own_plan_counts(&billing.into(), session.now(), grace(session)?))
}

/// Returns the default plan.
pub async fn default_plan(session: &impl UnitOfWork) -> Result<plan::Model> {
    plan::Entity::find()
        .filter(plan::Column::IsDefault.eq(true))
        .fetch_one(session)
        .await?
        .ok_or_else(|| Error::internal("the catalogue has no default plan"))
}

pub(super) fn grace(session: &impl UnitOfWork) -> Result<Duration> {
    Ok(session.settings().area::<Settings>()?.grace)
}

pub(super) fn own_plan_counts(terms: &PlanTerms, now: DateTime<Utc>, grace: Duration) -> bool {
    let ended = matches!(
        terms.status,
        SubscriptionStatus::Canceled
            | SubscriptionStatus::Unpaid
            | SubscriptionStatus::IncompleteExpired
    );
    !ended && own_plan_ends_at(terms, grace).is_none_or(|end| now < end)
}

/// How long a plan outlives its trial at Stripe, which reports within this time whether the trial
/// was paid: it delivers an event for three days.
const REPORT_TIME: Duration = Duration::days(3);

/// Returns when the organization's own plan ends by itself. Nothing has to run at that time.
pub(super) fn own_plan_ends_at(terms: &PlanTerms, grace: Duration) -> Option<DateTime<Utc>> {
    let by_cancellation = terms.period_end.filter(|_| terms.cancel_at_period_end);
    let by_status = match terms.status {
        SubscriptionStatus::Trialing if terms.has_subscription => {
            terms.trial_ends_at.map(|end| end + REPORT_TIME)
        }
        // A paused subscription is a trial that ended without a payment method.
        // An unpaid first invoice does not prolong the trial before it.
        SubscriptionStatus::Trialing
        | SubscriptionStatus::Paused
        | SubscriptionStatus::Incomplete => terms.trial_ends_at,
        // If no time is recorded, the failed payment is the one for the period that has just begun.
        SubscriptionStatus::PastDue => {
            Some(terms.past_due_since.or(terms.period_start).unwrap_or(terms.updated_at) + grace)
        }
        _ => None,
    };
    by_cancellation.into_iter().chain(by_status).chain(terms.paid_until).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_counts_until_the_subscription_or_trial_ends() {
        let now = DateTime::UNIX_EPOCH + Duration::days(100);
        let day = |day| Some(DateTime::UNIX_EPOCH + Duration::days(day));
        let counts = |status, trial_ends_at, period_start| {
            let terms = PlanTerms {
                plan: "pro".to_owned(),
                status,
                has_subscription: false,
                period_start,
                period_end: None,
                trial_ends_at,
                cancel_at_period_end: false,
                past_due_since: None,
                paid_until: None,
                has_exceptions: false,
                updated_at: now,
            };
            own_plan_counts(&terms, now, Duration::days(7))
        };
        assert!(counts(SubscriptionStatus::Active, None, None));
        assert!(counts(SubscriptionStatus::Trialing, day(101), None));
        assert!(!counts(SubscriptionStatus::Trialing, day(100), None));
        assert!(counts(SubscriptionStatus::Paused, None, None));
        assert!(!counts(SubscriptionStatus::Paused, day(100), None));
        assert!(counts(SubscriptionStatus::Incomplete, None, None));
        assert!(!counts(SubscriptionStatus::Incomplete, day(100), None));
        assert!(counts(SubscriptionStatus::PastDue, None, day(94)));
        assert!(!counts(SubscriptionStatus::PastDue, None, day(93)));
        for ended in [
            SubscriptionStatus::Canceled,
            SubscriptionStatus::Unpaid,
            SubscriptionStatus::IncompleteExpired,
        ] {
            assert!(!counts(ended, None, None));
        }
    }
}
