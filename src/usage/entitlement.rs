//! Entitlements: what an organization may use of each feature, next to what it uses.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use entity::{FeatureKind, feature};
use sea_orm::ConnectionTrait;

use super::{API_CALLS_PER_MONTH, Meter};
use crate::{
    area::Limit,
    auth::Permission,
    declared::Declared as _,
    error::Result,
    plan::{self, Allowance, Allowances},
    seats,
    sql::sql,
    tenancy::{DeclaredFeature, Session, UnitOfWork as _},
};

/// What an organization may use of a feature, and how much of it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement {
    /// The feature.
    pub feature: feature::Model,
    /// What is allowed.
    pub allowance: Allowance,
    /// The number in use. `None` for a flag, and for a count that this program does not count.
    pub used: Option<i64>,
    /// When a meter starts again at 0.
    pub resets_at: Option<DateTime<Utc>>,
}

/// The features that the areas declare. One without a row of this kind in the catalogue is denied.
pub fn declared_features() -> Vec<DeclaredFeature> {
    let limits = Limit::all().iter().map(|limit| (limit.feature, FeatureKind::Count, None));
    limits.chain(DeclaredFeature::all().iter().copied()).collect()
}

/// The entitlements of an organization.
#[derive(Debug, Default)]
pub struct Entitlements {
    /// All, or that of one feature.
    pub list: Vec<Entitlement>,
    /// When another allowance takes effect without a change.
    pub changes_at: Option<DateTime<Utc>>,
}

/// The entitlements of the session's organization: all, or that of one feature.
pub async fn entitlements(
    session: &Session,
    meter: &Meter,
    only: Option<&str>,
) -> Result<Entitlements> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    let Allowances { billing, mut features, changes_at } = plan::allowances(session, only).await?;
    for (feature, allowance) in &mut features {
        if feature.feature == seats::TEAM_MEMBERS {
            *allowance = seats::allowance(session, &billing, *allowance)?;
        }
    }
    let periods: Vec<_> = features
        .iter()
        .map(|(feature, _)| plan::period_of(feature, &billing, session.now()))
        .collect();
    let starts = periods.iter().flatten().map(|(start, _)| *start);
    // Meters have at most two kinds of periods.
    let (first, last) = (starts.clone().min(), starts.max());
    let used = used(session, only, first, last).await?;
    let entitlement = |((feature, allowance), period): ((feature::Model, _), Option<_>)| {
        let found = used.get(&(feature.feature.clone(), period.map(|(start, _)| start)));
        let mut used = found.copied().or(period.map(|_| 0));
        if feature.feature == API_CALLS_PER_MONTH {
            used = used.map(|used| meter.used(tenant.organization_id, used));
        }
        Entitlement { allowance, used, resets_at: period.map(|(_, end)| end), feature }
    };
    let entitlements = features.into_iter().zip(periods).map(entitlement);
    Ok(Entitlements { list: entitlements.collect(), changes_at })
}

/// Counts what is in use, by the feature and, for a meter, the start of its period.
async fn used(
    session: &Session,
    only: Option<&str>,
    first_period: Option<DateTime<Utc>>,
    last_period: Option<DateTime<Utc>>,
) -> Result<HashMap<(String, Option<DateTime<Utc>>), i64>> {
    let counts = Limit::all().iter().filter(|limit| only.is_none_or(|only| only == limit.feature));
    let count = |Limit { feature, count }: &Limit| {
        format!("SELECT '{feature}', NULL::timestamptz, ({})", count())
    };
    // Uses $2, whose type PostgreSQL could not tell in a query without counts.
    let meters = "SELECT feature, period_start, used FROM usage
        WHERE organization_id = $1 AND period_start IN ($3, $4) AND $2::timestamptz IS NOT NULL";
    let all: Vec<_> = counts.map(count).chain([meters.to_owned()]).collect();
    let count_all = sql(
        format!("SELECT * FROM ({}) used (feature, period_start, used)", all.join(" UNION ALL ")),
        [
            session.organization_id()?.into(),
            session.now().into(),
            first_period.into(),
            last_period.into(),
        ],
    );
    let rows = session.query_all_raw(count_all).await?;
    let entry = |row: &sea_orm::QueryResult| {
        let key = (row.try_get("", "feature")?, row.try_get("", "period_start")?);
        Ok((key, row.try_get("", "used")?))
    };
    rows.iter().map(entry).collect()
}
