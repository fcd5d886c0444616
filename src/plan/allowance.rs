//! What an organization may use: the row of its plan for each feature, replaced by the
//! organization's exception while that is valid. [`resolve`] is the only place that decides.

use chrono::{DateTime, Utc};
use entity::{FeatureKind, FeaturePeriod, feature, organization_billing, plan_feature};
use sea_orm::{EntityTrait, FromQueryResult, QueryResult};

use super::ops::{Lock, effective_plan, grace, own_plan_ends_at};
use crate::{
    calendar,
    error::{Error, Result},
    sql::sql,
    tenancy::{Fetch as _, Session, UnitOfWork},
};

/// What is allowed of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Whether the feature is included.
    pub enabled: bool,
    /// The number that is allowed. `None` is unlimited.
    pub limit: Option<i64>,
    /// Whether it is an exception for the organization, instead of the plan's row.
    pub is_override: bool,
    /// When the exception ends.
    pub valid_until: Option<DateTime<Utc>>,
}

impl Allowance {
    /// A feature without a row is not included.
    pub(super) const DENIED: Self =
        Self { enabled: false, limit: Some(0), is_override: false, valid_until: None };

    /// The allowance with at most this limit. `None` changes nothing.
    pub fn at_most(self, limit: Option<i64>) -> Self {
        Self { limit: self.limit.into_iter().chain(limit).min(), ..self }
    }

    /// Refuses one more of `feature` if there are already `count`.
    ///
    /// # Errors
    ///
    /// [`Error::PlanLimitExceeded`] if the limit does not allow it.
    pub fn require(self, feature: &str, count: u64) -> Result<()> {
        match self.limit {
            Some(limit) if u64::try_from(limit).is_ok_and(|limit| count >= limit) => {
                Err(Error::PlanLimitExceeded { feature: feature.to_owned(), limit })
            }
            _ => Ok(()),
        }
    }

    /// A feature with a disabled row is not included and has the limit 0.
    pub(super) fn of(row: &plan_feature::Model) -> Self {
        if row.enabled {
            Self { enabled: true, limit: row.limit_value, ..Self::DENIED }
        } else {
            Self::DENIED
        }
    }

    fn read(row: &QueryResult) -> Result<Self> {
        let enabled = row.try_get("", "enabled")?;
        let limit: Option<i64> = row.try_get("", "limit_value")?;
        Ok(Self {
            enabled,
            limit: if enabled { limit } else { Some(0) },
            is_override: row.try_get("", "is_override")?,
            valid_until: row.try_get("", "valid_until")?,
        })
    }
}

/// The features of the catalogue in display order, and what the organization may use of each.
#[derive(Debug)]
pub struct Allowances {
    /// The state of billing, which decides the plan.
    pub billing: organization_billing::Model,
    /// The features.
    pub features: Vec<(feature::Model, Allowance)>,
    /// When another allowance takes effect without a change: at the end of a trial, a canceled
    /// subscription or an exception.
    pub changes_at: Option<DateTime<Utc>>,
}

/// Returns what the current organization may use: of all features, or of one.
pub async fn allowances(scope: &impl UnitOfWork, only: Option<&str>) -> Result<Allowances> {
    let organization_id = scope.organization_id()?;
    let billing = organization_billing::Entity::find_by_id(organization_id)
        .fetch_one(scope)
        .await?
        .ok_or(Error::OrganizationNotFound)?;
    let plan = effective_plan(scope, &billing).await?;
    let features = resolve(scope, &plan, only).await?;
    let plan_end = own_plan_ends_at(&(&billing).into(), grace(scope)?);
    let plan_end = plan_end.filter(|end| *end > scope.now());
    let exceptions = features.iter().filter_map(|(_, allowance)| allowance.valid_until);
    let changes_at = exceptions.chain(plan_end).min();
    Ok(Allowances { billing, features, changes_at })
}

const RESOLVE: &str = "
SELECT f.feature, f.kind::text, f.name, f.unit, f.description, f.period::text, f.position, f.created_at, f.updated_at,
       coalesce(o.enabled, p.enabled, false) AS enabled,
       CASE WHEN o.feature IS NULL THEN p.limit_value ELSE o.limit_value END AS limit_value,
       o.feature IS NOT NULL AS is_override, o.valid_until
FROM features f
    LEFT JOIN plan_features p ON p.plan = $2 AND p.feature = f.feature
    LEFT JOIN organization_features o ON o.organization_id = $1 AND o.feature = f.feature
        AND (o.valid_until IS NULL OR o.valid_until > $3)
WHERE $4::text IS NULL OR f.feature = $4
ORDER BY f.position, f.feature";

async fn resolve(
    scope: &impl UnitOfWork,
    plan: &str,
    only: Option<&str>,
) -> Result<Vec<(feature::Model, Allowance)>> {
    // PostgreSQL rejects text with this character.
    if only.is_some_and(|key| key.contains('\0')) {
        return Ok(Vec::new());
    }
    let values = [scope.organization_id()?.into(), plan.into(), scope.now().into(), only.into()];
    let rows = scope.query_all_raw(sql(RESOLVE, values)).await?;
    rows.iter()
        .map(|row| Ok((feature::Model::from_query_result(row, "")?, Allowance::read(row)?)))
        .collect()
}

/// What is allowed of one feature. A key without a row of this kind in the catalogue is denied:
/// the limit of another kind has another meaning.
fn only(features: &[(feature::Model, Allowance)], kind: FeatureKind) -> Allowance {
    let feature = features.first().filter(|(feature, _)| feature.kind == kind);
    feature.map_or(Allowance::DENIED, |(_, allowance)| *allowance)
}

/// Refuses one more of a feature if the organization already has `count`.
///
/// # Errors
///
/// [`Error::PlanLimitExceeded`] if the plan in effect does not allow it.
pub async fn require(session: &Session, lock: &Lock, feature: &str, count: u64) -> Result<()> {
    allowance_of_count(session, lock, feature).await?.require(feature, count)
}

/// Returns what the locked organization may use of a feature of the kind `count`.
pub async fn allowance_of_count(
    session: &Session,
    lock: &Lock,
    feature: &str,
) -> Result<Allowance> {
    let plan = effective_plan(session, lock.billing()).await?;
    Ok(only(&resolve(session, &plan, Some(feature)).await?, FeatureKind::Count))
}

/// Refuses a feature that the plan in effect does not include.
///
/// # Errors
///
/// [`Error::PlanLimitExceeded`] with the limit 0 if the feature is not included.
pub async fn require_flag(session: &Session, feature: &str) -> Result<()> {
    if only(&allowances(session, Some(feature)).await?.features, FeatureKind::Flag).enabled {
        Ok(())
    } else {
        Err(Error::PlanLimitExceeded { feature: feature.to_owned(), limit: 0 })
    }
}

/// The allowance of one feature, and how long it holds.
#[derive(Clone, Copy, Debug)]
pub struct EffectiveAllowance {
    /// The allowance.
    pub allowance: Allowance,
    /// When billing or an exception last changed. The allowance holds until that changes again.
    pub version: DateTime<Utc>,
    /// When another allowance takes effect without a change.
    pub valid_until: Option<DateTime<Utc>>,
}

/// Returns what the organization may use of a meter, and until when.
pub async fn effective_allowance(
    scope: &impl UnitOfWork,
    feature: &str,
) -> Result<EffectiveAllowance> {
    let Allowances { billing, features, changes_at } = allowances(scope, Some(feature)).await?;
    let allowance = only(&features, FeatureKind::Meter);
    Ok(EffectiveAllowance { allowance, version: billing.updated_at, valid_until: changes_at })
}

/// The current period of a meter: its start and its end. `None` for other features.
pub fn period_of(
    feature: &feature::Model,
    billing: &organization_billing::Model,
    now: DateTime<Utc>,
) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let billed = billing.period_start.zip(billing.period_end);
    Some(match (feature.period?, billed) {
        (FeaturePeriod::BillingPeriod, Some((start, end))) if start < end => {
            calendar::continued(start, end, now)
        }
        // Without a billing period, months.
        _ => calendar::month_of(now),
    })
}
