//! Plans as clients see them.

use async_graphql::{Context, Object, SimpleObject};
use entity::{plan, plan_feature};

use super::{Allowance, Feature, loader::FeaturesOfPlan, ops};
use crate::{
    error::Result,
    graphql::{ContextExt, list_cost},
};

#[derive(Debug)]
pub struct Plan(pub plan::Model);

/// A plan of the catalogue.
#[Object]
impl Plan {
    /// The plan's key, for example `pro`. Keys never change.
    async fn plan(&self) -> &str {
        &self.0.plan
    }

    /// What to call the plan.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Its place in the catalogue, cheapest first.
    async fn position(&self) -> i32 {
        self.0.position
    }

    /// New organizations start with this plan, and ended subscriptions fall back to it.
    async fn is_default(&self) -> bool {
        self.0.is_default
    }

    /// What the plan allows.
    #[graphql(complexity = "list_cost(3, child_complexity)")]
    async fn features(&self, ctx: &Context<'_>) -> Result<Vec<PlanFeature>> {
        let rows = ctx.load(FeaturesOfPlan(self.0.plan.clone())).await?.unwrap_or_default();
        Ok(features(rows))
    }
}

/// What a plan allows of a feature.
#[derive(Debug, SimpleObject)]
pub struct PlanFeature {
    /// The plan's key.
    pub plan: String,
    /// The feature.
    pub feature: Feature,
    /// Whether the plan includes the feature.
    pub enabled: bool,
    /// How many the plan allows: 0 is none, null is unlimited.
    pub limit: Option<i32>,
}

/// The known features of some rows, in the order in which features are shown.
fn features(rows: Vec<plan_feature::Model>) -> Vec<PlanFeature> {
    let mut features: Vec<_> = rows
        .into_iter()
        .filter_map(|row| {
            let feature = Feature::from_key(&row.feature)?;
            let allowance = Allowance::of(feature, Some(&row));
            Some(PlanFeature {
                feature,
                plan: row.plan,
                enabled: allowance.enabled,
                limit: allowance.limit.map(crate::graphql::to_int),
            })
        })
        .collect();
    features.sort_by_key(|feature| Feature::ALL.iter().position(|known| *known == feature.feature));
    features
}

/// The catalogue.
#[derive(Debug, Default)]
pub struct PlanQuery;

#[Object]
impl PlanQuery {
    /// The plans that an organization can have, cheapest first.
    #[graphql(complexity = "list_cost(5, child_complexity)")]
    async fn plans(&self, ctx: &Context<'_>) -> Result<Vec<Plan>> {
        Ok(ops::list(ctx.session()?).await?.into_iter().map(Plan).collect())
    }

    /// What every plan allows of every feature, plan by plan: the table of a pricing page.
    #[graphql(complexity = "list_cost(15, child_complexity)")]
    async fn plan_features(&self, ctx: &Context<'_>) -> Result<Vec<PlanFeature>> {
        let plans = ops::list(ctx.session()?).await?;
        let keys = plans.into_iter().map(|plan| FeaturesOfPlan(plan.plan));
        let keys: Vec<_> = keys.collect();
        let mut rows = ctx.load_many(keys.clone()).await?;
        Ok(keys.iter().flat_map(|key| features(rows.remove(key).unwrap_or_default())).collect())
    }
}
