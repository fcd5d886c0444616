//! The rules of plans: which one is in effect, and the lock under which counting is exact.

use chrono::{DateTime, Duration, Utc};
use entity::{SubscriptionStatus, organization_billing, plan, plan_feature};
use sea_orm::{
    ColumnTrait, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, sea_query::LockType,
};

use super::Feature;
use crate::{
    auth::Permission,
    error::{Error, Result},
    graphql::enum_name,
    tenancy::Session,
};

/// Proof that the organization's lock is held until the transaction ends.
#[derive(Debug)]
pub struct Lock {
    billing: organization_billing::Model,
}

impl Lock {
    /// The locked row: the state of billing.
    #[must_use]
    pub fn billing(&self) -> &organization_billing::Model {
        &self.billing
    }
}

/// What a plan says about a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The feature.
    pub feature: Feature,
    /// The plan includes it.
    pub enabled: bool,
    /// How many; `None` is unlimited.
    pub limit: Option<i64>,
}

/// Takes the organization's lock, then reads the person's role again: it may have changed while waiting.
///
/// # Errors
///
/// When the person is no longer a member.
pub async fn lock(session: &Session) -> Result<Lock> {
    let lock = lock_for_newcomer(session).await?;
    session.refresh_role().await?;
    Ok(lock)
}

/// Takes the organization's lock for somebody who is just becoming a member.
///
/// # Errors
///
/// When the organization has ended.
pub async fn lock_for_newcomer(session: &Session) -> Result<Lock> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    let billing = organization_billing::Entity::find_by_id(tenant.organization_id)
        .lock(LockType::NoKeyUpdate)
        .one(session)
        .await?
        .ok_or(Error::OrganizationNotFound)?;
    Ok(Lock { billing })
}

/// Refuses one more of a feature when the organization has `count` already.
///
/// # Errors
///
/// [`Error::PlanLimitExceeded`] when the plan in effect does not allow it.
pub async fn require(session: &Session, lock: &Lock, feature: Feature, count: u64) -> Result<()> {
    let plan = effective_plan(session, &lock.billing).await?;
    let row =
        plan_feature::Entity::find_by_id((plan, feature.key().to_owned())).one(session).await?;
    let limit = match row {
        Some(row) if row.enabled => row.limit_value,
        _ => Some(0),
    };
    match limit {
        Some(limit) if u64::try_from(limit).is_ok_and(|limit| count >= limit) => {
            Err(Error::PlanLimitExceeded { feature: enum_name(feature), limit })
        }
        _ => Ok(()),
    }
}

/// The plan in effect for the current organization.
///
/// # Errors
///
/// Without an organization.
pub async fn current(session: &Session) -> Result<plan::Model> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    let plan_of_billing = organization_billing::Entity::belongs_to(plan::Entity)
        .from(organization_billing::Column::Plan)
        .to(plan::Column::Plan);
    let (billing, plan) = organization_billing::Entity::find_by_id(tenant.organization_id)
        .join(JoinType::LeftJoin, plan_of_billing.into())
        .select_also(plan::Entity)
        .one(session)
        .await?
        .ok_or(Error::OrganizationNotFound)?;
    match plan {
        Some(plan) if own_plan_counts(&billing, session.now(), session.rules().billing_grace) => {
            Ok(plan)
        }
        _ => default_plan(session).await,
    }
}

/// What the plan in effect says about every feature; one without a row is not included.
///
/// # Errors
///
/// Without an organization.
pub async fn allowances(session: &Session) -> Result<[Allowance; Feature::ALL.len()]> {
    let plan = current(session).await?.plan;
    let rows = plan_feature::Entity::find()
        .filter(plan_feature::Column::Plan.eq(plan))
        .all(session)
        .await?;
    Ok(Feature::ALL.map(|feature| match rows.iter().find(|row| row.feature == feature.key()) {
        Some(row) => Allowance { feature, enabled: row.enabled, limit: row.limit_value },
        None => Allowance { feature, enabled: false, limit: Some(0) },
    }))
}

/// The plan with this key; `None` when the catalogue has none.
///
/// # Errors
///
/// When the database fails.
pub async fn find(session: &Session, plan: &str) -> Result<Option<plan::Model>> {
    Ok(plan::Entity::find_by_id(plan).one(session).await?)
}

/// The catalogue, cheapest first.
pub(super) async fn list(session: &Session) -> Result<Vec<plan::Model>> {
    Ok(plan::Entity::find().order_by_asc(plan::Column::Position).all(session).await?)
}

async fn effective_plan(
    session: &Session,
    billing: &organization_billing::Model,
) -> Result<String> {
    if own_plan_counts(billing, session.now(), session.rules().billing_grace) {
        Ok(billing.plan.clone())
    } else {
        Ok(default_plan(session).await?.plan)
    }
}

/// The plan of those who have no other.
///
/// # Errors
///
/// When the catalogue has none.
pub async fn default_plan(session: &Session) -> Result<plan::Model> {
    plan::Entity::find()
        .filter(plan::Column::IsDefault.eq(true))
        .one(session)
        .await?
        .ok_or_else(|| Error::internal("no plan is the default one"))
}

/// Whether the organization has its own plan, or has fallen back to the default one.
fn own_plan_counts(
    billing: &organization_billing::Model,
    now: DateTime<Utc>,
    grace: Duration,
) -> bool {
    if billing.cancel_at_period_end && billing.period_end.is_some_and(|end| end <= now) {
        return false;
    }
    match billing.status {
        SubscriptionStatus::Active
        | SubscriptionStatus::Incomplete
        | SubscriptionStatus::Paused => true,
        SubscriptionStatus::Trialing => billing.trial_ends_at.is_none_or(|end| now < end),
        // The failed payment is the one for the period that has just begun.
        SubscriptionStatus::PastDue => {
            now < billing.period_start.unwrap_or(billing.updated_at) + grace
        }
        SubscriptionStatus::Canceled
        | SubscriptionStatus::Unpaid
        | SubscriptionStatus::IncompleteExpired => false,
    }
}

#[cfg(test)]
mod tests {
    use entity::OrganizationId;

    use super::*;

    #[test]
    fn a_plan_counts_until_the_subscription_or_trial_ends() {
        let now = DateTime::UNIX_EPOCH + Duration::days(100);
        let day = |day| Some(DateTime::UNIX_EPOCH + Duration::days(day));
        let counts = |status, trial_ends_at, period_start| {
            let billing = organization_billing::Model {
                organization_id: OrganizationId::new(),
                stripe_customer_id: None,
                stripe_subscription_id: None,
                status,
                plan: "pro".to_owned(),
                period_start,
                period_end: None,
                trial_ends_at,
                cancel_at_period_end: false,
                stripe_event_at: None,
                created_at: now,
                updated_at: now,
            };
            own_plan_counts(&billing, now, Duration::days(7))
        };
        assert!(counts(SubscriptionStatus::Active, None, None));
        assert!(counts(SubscriptionStatus::Trialing, day(101), None));
        assert!(!counts(SubscriptionStatus::Trialing, day(100), None));
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
