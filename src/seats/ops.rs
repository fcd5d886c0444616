//! The rules of seats: how they are counted, and when Stripe learns of a change.

use chrono::{DateTime, Utc};
use entity::{invitation, organization_billing, organization_member};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, sea_query::Expr};
use serde_json::json;

use super::{IS_OPEN, SeatsMode, Settings, TEAM_MEMBERS};
use crate::{
    error::{Error, Result},
    outbox::{self, Kind},
    plan::Lock,
    tenancy::{Fetch as _, Session, UnitOfWork},
};

/// The number of members, and of invitations that can still be accepted.
///
/// # Errors
///
/// Fails without an organization.
pub async fn team_size(scope: &impl UnitOfWork) -> Result<u64> {
    let organization_id = scope.organization_id()?;
    let members = organization_member::Entity::find()
        .filter(organization_member::Column::OrganizationId.eq(organization_id));
    let pending = invitation::Entity::find()
        .filter(invitation::Column::OrganizationId.eq(organization_id))
        .filter(invitation::Column::ExpiresAt.gt(scope.now()))
        .filter(Expr::cust(IS_OPEN.as_str()));
    Ok(members.count(scope).await? + pending.count(scope).await?)
}

/// Refuses one more if the organization has bought a number of seats, and `count` are taken.
///
/// # Errors
///
/// [`Error::PlanLimitExceeded`] if no seat is free.
pub fn require(session: &Session, lock: &Lock, count: u64) -> Result<()> {
    let is_limit = session.settings().area::<Settings>()?.mode == Some(SeatsMode::Cap);
    match lock.billing().seats.filter(|_| is_limit) {
        Some(seats) if u64::try_from(seats).is_ok_and(|seats| count >= seats) => {
            let feature = TEAM_MEMBERS.to_owned();
            Err(Error::PlanLimitExceeded { feature, limit: seats.into() })
        }
        _ => Ok(()),
    }
}

/// Has the quantity of a per-seat subscription set to the size of the team, after the commit.
///
/// # Errors
///
/// Fails without an organization.
pub async fn follow(scope: &impl UnitOfWork) -> Result<()> {
    follow_expiry(scope, scope.now()).await
}

/// As [`follow`], at the time when an invitation expires.
///
/// # Errors
///
/// Fails without an organization.
pub async fn follow_expiry(scope: &impl UnitOfWork, at: DateTime<Utc>) -> Result<()> {
    if scope.settings().area::<Settings>()?.mode != Some(SeatsMode::Sync) {
        return Ok(());
    }
    let billing =
        organization_billing::Entity::find_by_id(scope.organization_id()?).fetch_one(scope).await?;
    if billing.is_some_and(|billing| billing.seats.is_some()) {
        outbox::add_due(scope, Kind::StripeSeats, json!({}), at).await?;
    }
    Ok(())
}
