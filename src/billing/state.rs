//! The state of billing, for changes with and without a payment provider.

use entity::{organization_billing, plan as plan_row};
use serde_json::Value;

use crate::{
    audit::{self, Action},
    auth::Permission,
    error::{Error, Result},
    plan::{self, Lock},
    tenancy::{Change, Session, UnitOfWork},
};

/// Locks the organization. The locked row is the state of billing.
pub(super) async fn get_locked(session: &Session) -> Result<Lock> {
    session.authorize(Permission::BillingManage)?;
    let lock = plan::lock(session).await?;
    session.authorize(Permission::BillingManage)?;
    Ok(lock)
}

/// Finds a plan that a client names.
pub(super) async fn known_plan(session: &Session, plan: &str) -> Result<plan_row::Model> {
    plan::find(session, plan).await?.ok_or_else(|| {
        Error::bad_input("input.plan", "is not a known plan. `plans` lists the available plans.")
    })
}

/// Records a change of billing.
pub(super) async fn record(
    session: &impl UnitOfWork,
    action: Action,
    billing: &organization_billing::Model,
    metadata: Value,
) -> Result<()> {
    session.note(Change::new(plan::ENTITLEMENTS));
    audit::record(session, action, Some(billing.organization_id.0), metadata).await
}
