//! Counting what is used, next to what is allowed.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::Meter;
use crate::{
    auth::Permission,
    calendar::month_of,
    error::{Error, Result},
    plan::{self, Allowance, Feature},
    tenancy::{Session, SystemSession, UnitOfWork},
};

/// What is allowed and used of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
pub async fn entitlements(session: &Session, meter: &Meter) -> Result<Vec<Entitlement>> {
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

/// A block of calls that a server may count without asking again.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    /// The month that it belongs to.
    pub(super) period_start: DateTime<Utc>,
    /// The beginning of the next.
    pub(super) period_end: DateTime<Utc>,
    /// How many calls the plan allows in the month; `None` is unlimited.
    pub(super) limit: Option<i64>,
    /// How many were leased.
    pub(super) block: i64,
    /// How many are leased or used of the month, by all servers, this block included.
    pub(super) used: i64,
    /// When the organization's billing changed last.
    pub(super) version: Option<DateTime<Utc>>,
    /// When another plan comes into effect by itself.
    pub(super) valid_until: Option<DateTime<Utc>>,
}

/// Leases a block of calls; an empty one when none are left.
pub(super) async fn lease(session: &SystemSession) -> Result<Lease> {
    let (period_start, period_end) = month_of(session.now());
    let effective = plan::effective_allowance(session, Feature::ApiCallsPerMonth).await?;
    let used = add_used(session, period_start, 0).await?;
    let block = effective.allowance.limit.map_or(0, |limit| block_of(limit - used));
    let used = if block > 0 { add_used(session, period_start, block).await? } else { used };
    Ok(Lease {
        period_start,
        period_end,
        limit: effective.allowance.limit,
        block,
        used,
        version: Some(effective.version),
        valid_until: effective.valid_until,
    })
}

/// How long calls go on uncounted in the database, before it is tried again.
const STOPGAP: TimeDelta = TimeDelta::seconds(5);

/// In place of a lease while the database takes no changes: reading goes on, is counted in memory,
/// and not limited.
pub(super) async fn stopgap(session: &SystemSession) -> Result<Lease> {
    let (period_start, period_end) = month_of(session.now());
    let effective = plan::effective_allowance(session, Feature::ApiCallsPerMonth).await?;
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT coalesce(sum(used), 0)::int8 AS used FROM usage
         WHERE organization_id = $1 AND feature = $2 AND period_start = $3",
        [
            session.organization(Permission::OrganizationRead)?.into(),
            Feature::ApiCallsPerMonth.key().into(),
            period_start.into(),
        ],
    );
    let row = session.query_one_raw(statement).await?;
    Ok(Lease {
        period_start,
        period_end,
        limit: effective.allowance.limit.filter(|limit| *limit == 0),
        block: 0,
        used: row.ok_or_else(|| Error::internal("usage was not read"))?.try_get("", "used")?,
        version: Some(effective.version),
        valid_until: Some(session.now() + STOPGAP),
    })
}

/// Gives back what is left of a lease; where there was no limit, it is below zero, and is what was
/// used.
pub(super) async fn give_back(
    session: &SystemSession,
    period_start: DateTime<Utc>,
    left: i64,
) -> Result<()> {
    add_used(session, period_start, -left).await?;
    Ok(())
}

/// A sixteenth of what remains: large enough to ask seldom, small enough to leave others theirs.
fn block_of(remaining: i64) -> i64 {
    if remaining <= 0 { 0 } else { (remaining / 16).clamp(1, 1_000) }
}

/// Adds to what is used in a month, and holds its row until the transaction ends.
async fn add_used(session: &SystemSession, period_start: DateTime<Utc>, calls: i64) -> Result<i64> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "INSERT INTO usage AS u (organization_id, feature, period_start, used) VALUES ($1, $2, $3, greatest($4, 0))
         ON CONFLICT (organization_id, feature, period_start) DO UPDATE SET used = greatest(u.used + $4, 0)
         RETURNING used",
        [
            session.organization(Permission::OrganizationRead)?.into(),
            Feature::ApiCallsPerMonth.key().into(),
            period_start.into(),
            calls.into(),
        ],
    );
    let row = session.query_one_raw(statement).await?;
    Ok(row.ok_or_else(|| Error::internal("usage was not counted"))?.try_get("", "used")?)
}

#[cfg(test)]
mod tests {
    use super::block_of;

    #[test]
    fn a_block_is_a_sixteenth_of_what_remains_within_bounds() {
        assert_eq!([-5, 0, 1, 15, 160, 1_000_000].map(block_of), [0, 0, 1, 1, 10, 1_000]);
    }
}
