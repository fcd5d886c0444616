//! What each plan allows of one meter, in memory: decides for an organization without a query.

use std::collections::HashMap;

use chrono::{DateTime, Duration, Utc};
use entity::{FeatureKind, PlanTerms, feature, plan_feature};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{
    allowance::{Allowance, EffectiveAllowance},
    ops::{default_plan, own_plan_counts, own_plan_ends_at},
};
use crate::{
    error::Result,
    tenancy::{Fetch as _, UnitOfWork},
};

/// What each plan allows of one meter.
#[derive(Debug)]
pub struct MeterCatalogue {
    default_plan: String,
    allowances: HashMap<String, Allowance>,
}

impl MeterCatalogue {
    /// Reads the rows of the meter.
    pub async fn load(session: &impl UnitOfWork, meter: &str) -> Result<Self> {
        let feature = feature::Entity::find_by_id(meter).fetch_one(session).await?;
        let is_meter = feature.is_some_and(|feature| feature.kind == FeatureKind::Meter);
        let of_meter = plan_feature::Column::Feature.eq(meter);
        let rows = plan_feature::Entity::find().filter(of_meter).fetch(session).await?;
        let allowances = rows.iter().filter(|_| is_meter);
        Ok(Self {
            default_plan: default_plan(session).await?.plan,
            allowances: allowances.map(|row| (row.plan.clone(), Allowance::of(row))).collect(),
        })
    }

    /// What an organization may use, and until when. `None` if it has exceptions, which only the
    /// database knows.
    pub fn effective_allowance(
        &self,
        terms: &PlanTerms,
        now: DateTime<Utc>,
        grace: Duration,
    ) -> Option<EffectiveAllowance> {
        if terms.has_exceptions {
            return None;
        }
        let counts = own_plan_counts(terms, now, grace);
        let plan = if counts { &terms.plan } else { &self.default_plan };
        let allowance = self.allowances.get(plan).copied().unwrap_or(Allowance::DENIED);
        let valid_until = own_plan_ends_at(terms, grace).filter(|end| *end > now);
        Some(EffectiveAllowance { allowance, version: terms.updated_at, valid_until })
    }
}
