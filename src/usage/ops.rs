//! Counting what is used, next to what is allowed.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::{
    auth::Permission,
    calendar::month_of,
    error::Result,
    plan::{self, Allowance, Feature},
    tenancy::Session,
};

/// What is allowed and used of a feature.
#[derive(Clone, Copy, Debug)]
pub struct Entitlement {
    /// What the plan says.
    pub allowance: Allowance,
    /// How many are used.
    pub used: i64,
    /// When the count starts again, for what is counted by time.
    pub resets_at: Option<DateTime<Utc>>,
}

/// What the organization may use and uses, of every feature.
///
/// # Errors
///
/// Without an organization.
pub async fn entitlements(session: &Session) -> Result<Vec<Entitlement>> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    let (month, next_month) = month_of(session.now());
    // Expired invitations take no seat.
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT (SELECT count(*) FROM projects WHERE organization_id = $1) AS projects,
                (SELECT count(*) FROM organization_members WHERE organization_id = $1)
                + (SELECT count(*) FROM invitations WHERE organization_id = $1
                   AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $2) AS team_members,
                coalesce((SELECT used FROM usage WHERE organization_id = $1 AND feature = $3
                          AND period_start = $4), 0) AS api_calls_per_month",
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
        let used = match &counts {
            Some(counts) => counts.try_get("", allowance.feature.key())?,
            None => 0,
        };
        let by_month = allowance.feature == Feature::ApiCallsPerMonth;
        let resets_at = by_month.then_some(next_month);
        entitlements.push(Entitlement { allowance, used, resets_at });
    }
    Ok(entitlements)
}
