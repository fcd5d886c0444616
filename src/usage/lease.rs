//! The SQL of leasing API calls of one organization. A row lock serializes the leases of an
//! organization and month, so their sum stays within the limit.

use chrono::{DateTime, TimeDelta, Utc};

use super::API_CALLS_PER_MONTH;
use crate::{
    calendar::month_of,
    error::Result,
    plan::{self, EffectiveAllowance},
    sql::{sql, value_of},
    tenancy::{SystemSession, UnitOfWork},
};

/// A block of calls that a server may count without asking the database.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    /// The start of the month that the block belongs to.
    pub(super) period_start: DateTime<Utc>,
    /// The start of the next month.
    pub(super) period_end: DateTime<Utc>,
    /// Calls that the plan allows in the month; `None` is unlimited.
    pub(super) limit: Option<i64>,
    /// Calls in this block.
    pub(super) block: i64,
    /// Calls leased or used in the month by all servers, including this block. `None` if a plan
    /// without a limit was granted from memory.
    pub(super) used: Option<i64>,
    /// When the organization's billing last changed.
    pub(super) version: Option<DateTime<Utc>>,
    /// When another plan takes effect by itself, for example at the end of a trial.
    pub(super) valid_until: Option<DateTime<Utc>>,
}

impl Lease {
    /// What a plan allows in the month from `period_start` to `period_end`.
    pub(super) fn without_block(
        (period_start, period_end): (DateTime<Utc>, DateTime<Utc>),
        effective: EffectiveAllowance,
        used: Option<i64>,
    ) -> Self {
        let EffectiveAllowance { allowance, version, valid_until } = effective;
        let (limit, version) = (allowance.limit, Some(version));
        Self { period_start, period_end, limit, block: 0, used, version, valid_until }
    }
}

/// What the plan allows now and what was used, without a block.
pub(super) async fn unleased(session: &SystemSession) -> Result<Lease> {
    let month = month_of(session.now());
    let sum = sql(
        "SELECT coalesce(sum(used), 0)::int8 AS used FROM usage
         WHERE organization_id = $1 AND feature = $2 AND period_start = $3",
        [session.organization_id()?.into(), API_CALLS_PER_MONTH.into(), month.0.into()],
    );
    let (effective, used) = tokio::try_join!(
        plan::effective_allowance(session, API_CALLS_PER_MONTH),
        value_of(session, "used", sum),
    )?;
    Ok(Lease::without_block(month, effective, Some(used)))
}

/// Leases a block of calls; an empty one if none are left.
pub(super) async fn lease(session: &SystemSession) -> Result<Lease> {
    let lease = unleased(session).await?;
    let used = add_used(session, lease.period_start, 0).await?;
    let block = lease.limit.map_or(0, |limit| block_of(limit - used));
    let used = if block > 0 { add_used(session, lease.period_start, block).await? } else { used };
    Ok(Lease { block, used: Some(used), ..lease })
}

/// How long calls are counted only in memory before the next try to lease.
const STOPGAP: TimeDelta = TimeDelta::seconds(5);

/// Replaces a lease while the database accepts no changes. Queries go on; they are counted in
/// memory and not limited.
pub(super) async fn stopgap(session: &SystemSession) -> Result<Lease> {
    let lease = unleased(session).await?;
    let limit = lease.limit.filter(|limit| *limit == 0);
    Ok(Lease { limit, valid_until: Some(session.now() + STOPGAP), ..lease })
}

/// The largest block. Calls without a limit are written when they reach as many.
pub(super) const LARGEST_BLOCK: i64 = 1_000;

/// A sixteenth of the remaining calls: large enough to lease rarely, small enough for other
/// servers.
pub(super) fn block_of(remaining: i64) -> i64 {
    if remaining <= 0 { 0 } else { (remaining / 16).clamp(1, LARGEST_BLOCK) }
}

/// Adds to the calls used in a month, and locks that row until the transaction ends. `calls` is
/// negative for leased calls that are returned.
pub(super) async fn add_used(
    session: &SystemSession,
    period_start: DateTime<Utc>,
    calls: i64,
) -> Result<i64> {
    let add = sql(
        "INSERT INTO usage AS u (organization_id, feature, period_start, used) VALUES ($1, $2, $3, greatest($4, 0))
         ON CONFLICT (organization_id, feature, period_start) DO UPDATE SET used = greatest(u.used + $4, 0)
         RETURNING used",
        [
            session.organization_id()?.into(),
            API_CALLS_PER_MONTH.into(),
            period_start.into(),
            calls.into(),
        ],
    );
    value_of(session, "used", add).await
}

#[cfg(test)]
mod tests {
    use super::block_of;

    #[test]
    fn a_block_is_a_sixteenth_of_what_remains_within_bounds() {
        assert_eq!([-5, 0, 1, 15, 160, 1_000_000].map(block_of), [0, 0, 1, 1, 10, 1_000]);
    }
}
