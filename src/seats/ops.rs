//! The rules of seats: how they are counted, and when Stripe learns of a change.

use entity::{invitation, organization_billing, organization_member};
use sea_orm::{
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, Select, sea_query::Expr,
};
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
    Ok(members.count(scope).await? + pending(scope)?.count(scope).await?)
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
    if scope.settings().area::<Settings>()?.mode != Some(SeatsMode::Sync) {
        return Ok(());
    }
    let billing =
        organization_billing::Entity::find_by_id(scope.organization_id()?).fetch_one(scope).await?;
    if billing.is_some_and(|billing| billing.seats.is_some()) {
        outbox::add(scope, Kind::StripeSeats, json!({})).await?;
    }
    Ok(())
}

/// Has the quantity set again when the next invitation expires, unless that is planned for an
/// earlier time, when this is called again.
///
/// # Errors
///
/// Fails without an organization.
pub async fn follow_expiry(scope: &impl UnitOfWork) -> Result<()> {
    let pending = pending(scope)?.order_by_asc(invitation::Column::ExpiresAt);
    let Some(next) = pending.fetch_one(scope).await? else { return Ok(()) };
    if !outbox::is_waiting(scope, Kind::StripeSeats, next.expires_at).await? {
        outbox::add_due(scope, Kind::StripeSeats, json!({}), next.expires_at).await?;
    }
    Ok(())
}

/// The invitations that can still be accepted.
fn pending(scope: &impl UnitOfWork) -> Result<Select<invitation::Entity>> {
    Ok(invitation::Entity::find()
        .filter(invitation::Column::OrganizationId.eq(scope.organization_id()?))
        .filter(invitation::Column::ExpiresAt.gt(scope.now()))
        .filter(Expr::cust(IS_OPEN.as_str())))
}
