//! Counting what is used, next to what is allowed.

use chrono::{DateTime, Datelike, Months, NaiveTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::{
    auth::Permission,
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

/// The calendar month in UTC around a time: its beginning, and that of the next.
fn month_of(now: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    let first = now.date_naive().with_day(1).unwrap_or(now.date_naive());
    let start = first.and_time(NaiveTime::MIN).and_utc();
    (start, start.checked_add_months(Months::new(1)).unwrap_or(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_runs_from_midnight_to_midnight_in_utc() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(
            month_of(at("2026-12-31T23:59:59.999Z")),
            (at("2026-12-01T00:00:00Z"), at("2027-01-01T00:00:00Z"))
        );
        assert_eq!(month_of(at("2026-02-01T00:00:00Z")).0, at("2026-02-01T00:00:00Z"));
    }
}
