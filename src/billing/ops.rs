//! The rules of billing.

use entity::{OrganizationId, SubscriptionStatus, organization_billing, plan};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, Set};

use crate::{
    auth::Permission,
    error::{Error, Result},
    tenancy::Session,
};

/// The state of billing.
///
/// # Errors
///
/// Without an organization, or without the permission.
pub async fn get(session: &Session) -> Result<organization_billing::Model> {
    let tenant = session.authorize(Permission::BillingRead)?;
    organization_billing::Entity::find_by_id(tenant.organization_id)
        .one(session)
        .await?
        .ok_or_else(|| Error::internal("the organization has no billing row"))
}

/// Starts a new organization on the default plan, without a trial.
///
/// # Errors
///
/// When the catalogue has no default plan.
pub async fn create(session: &Session, organization_id: OrganizationId) -> Result<()> {
    let plan = plan::Entity::find()
        .filter(plan::Column::IsDefault.eq(true))
        .one(session)
        .await?
        .ok_or_else(|| Error::internal("no plan is the default one"))?;
    let row = organization_billing::ActiveModel {
        organization_id: Set(organization_id),
        plan: Set(plan.plan),
        ..Default::default()
    };
    organization_billing::Entity::insert(row).exec_without_returning(session).await?;
    Ok(())
}

/// Whether somebody is still charged for the organization.
///
/// # Errors
///
/// Without an organization, or without the permission.
pub async fn has_live_subscription(session: &Session) -> Result<bool> {
    let billing = get(session).await?;
    let ended = matches!(
        billing.status,
        SubscriptionStatus::Canceled | SubscriptionStatus::IncompleteExpired
    );
    Ok(billing.stripe_subscription_id.is_some() && !ended)
}
