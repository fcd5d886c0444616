//! The rules of seats: how they are counted, and when Stripe learns of a change.

use entity::{invitation, organization_billing, organization_member};
use sea_orm::{
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, Select, sea_query::Expr,
};
use serde_json::json;

use super::{IS_OPEN, SeatsMode, Settings, TEAM_MEMBERS};
use crate::{
    error::Result,
    outbox::{self, Kind},
    plan::{self, Allowance, Lock},
    tenancy::{Fetch as _, Session, UnitOfWork},
};

/// The number of members, and of invitations that can still be accepted.
pub async fn team_size(scope: &impl UnitOfWork) -> Result<u64> {
    let organization_id = scope.organization_id()?;
    let members = organization_member::Entity::find()
        .filter(organization_member::Column::OrganizationId.eq(organization_id));
    Ok(members.count(scope).await? + pending(scope)?.count(scope).await?)
}

/// What an organization may use of [`TEAM_MEMBERS`]: what its plan allows, and no more than the
/// seats that it has bought, if owners buy them. The seats belong to the plan in effect, which an
/// exception replaces.
pub fn allowance(
    scope: &impl UnitOfWork,
    billing: &organization_billing::Model,
    of_plan: Allowance,
) -> Result<Allowance> {
    let is_limit = scope.settings().area::<Settings>()?.mode == Some(SeatsMode::Cap)
        && !of_plan.is_override
        && plan::is_own_plan_in_effect(scope, billing)?;
    Ok(of_plan.at_most(billing.seats.filter(|_| is_limit).map(i64::from)))
}

/// Refuses one more member or invitation if there are already `count`.
///
/// # Errors
///
/// [`crate::error::Error::PlanLimitExceeded`] if the plan or the bought seats do not allow it.
pub async fn require(session: &Session, lock: &Lock, count: u64) -> Result<()> {
    let of_plan = plan::allowance_of_count(session, lock, TEAM_MEMBERS).await?;
    allowance(session, lock.billing(), of_plan)?.require(TEAM_MEMBERS, count)
}

/// Has the quantity of a per-seat subscription set to the size of the team, after the commit.
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
