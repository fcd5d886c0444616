//! Entitlements: usage next to its limit.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::Meter;
use crate::{
    auth::Permission,
    calendar::month_of,
    error::Result,
    invitation::IS_OPEN,
    plan::{self, Allowance, Feature},
    tenancy::{Session, UnitOfWork},
};

/// What the plan allows of a feature, and how much of it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entitlement {
    /// What the plan allows.
    pub allowance: Allowance,
    /// The number in use.
    pub used: i64,
    /// When the count restarts, for features counted per month.
    pub resets_at: Option<DateTime<Utc>>,
}

/// The entitlements of the session's organization, one per feature.
///
/// # Errors
///
/// When the session has no organization.
pub async fn entitlements(session: &Session, meter: &Meter) -> Result<Vec<Entitlement>> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    let (month, next_month) = month_of(session.now());
    // Open invitations count as members until they expire.
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        format!(
            "SELECT (SELECT count(*) FROM projects WHERE organization_id = $1) AS projects,
                    (SELECT count(*) FROM organization_members WHERE organization_id = $1)
                    + (SELECT count(*) FROM invitations WHERE organization_id = $1
                       AND expires_at > $2 AND {}) AS team_members,
                    coalesce((SELECT used FROM usage WHERE organization_id = $1 AND feature = $3
                              AND period_start = $4), 0) AS api_calls_per_month",
            *IS_OPEN
        ),
        [
            tenant.organization_id.into(),
            session.now().into(),
            Feature::ApiCallsPerMonth.key().into(),
            month.into(),
        ],
    );
    let counts = session.query_one_raw(statement).await?;
    let mut entitlements = Vec::new();
    for allowance in plan::allowances(session).await? {
        let mut used = match &counts {
            Some(counts) => counts.try_get("", allowance.feature.key())?,
            None => 0,
        };
        let by_month = allowance.feature == Feature::ApiCallsPerMonth;
        if by_month {
            used = meter.used(tenant.organization_id, used);
        }
        let resets_at = by_month.then_some(next_month);
        entitlements.push(Entitlement { allowance, used, resets_at });
    }
    Ok(entitlements)
}
