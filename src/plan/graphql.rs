//! Plans in the GraphQL API: the catalogue and what each plan allows.

use async_graphql::{Context, Object, SimpleObject};
use entity::{plan, plan_feature};

use super::{
    Allowance, Feature,
    loader::FeaturesOfPlan,
    ops,
    price::{PlanPrice, PricesOfPlan},
};
use crate::{
    error::Result,
    graphql::{ContextExt, list_cost},
};

#[derive(Debug)]
pub struct Plan(pub plan::Model);

/// A plan of the catalogue.
#[Object]
impl Plan {
    /// The key of the plan, for example `pro`. Keys never change.
    async fn plan(&self) -> &str {
        &self.0.plan
    }

    /// The display name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The position in the catalogue, cheapest first.
    async fn position(&self) -> i32 {
        self.0.position
    }

    /// Whether this is the default plan. New organizations start with it, and it takes effect when
    /// a subscription ends.
    async fn is_default(&self) -> bool {
        self.0.is_default
    }

    /// The prices at which Stripe sells the plan, monthly ones first. Empty if the plan is not for
    /// sale.
    #[graphql(complexity = "list_cost(2, child_complexity)")]
    async fn prices(&self, ctx: &Context<'_>) -> Result<Vec<PlanPrice>> {
        let rows = ctx.load(PricesOfPlan(self.0.plan.clone())).await?.unwrap_or_default();
        Ok(rows.into_iter().map(PlanPrice).collect())
    }

    /// The limits of the plan.
    #[graphql(complexity = "list_cost(3, child_complexity)")]
    async fn features(&self, ctx: &Context<'_>) -> Result<Vec<PlanFeature>> {
        let rows = ctx.load(FeaturesOfPlan(self.0.plan.clone())).await?.unwrap_or_default();
        Ok(features(rows))
    }
}

/// The limit of a feature in a plan.
#[derive(Debug, SimpleObject)]
pub struct PlanFeature {
    /// The key of the plan.
    pub plan: String,
    /// The feature.
    pub feature: Feature,
    /// Whether the plan includes the feature.
    pub enabled: bool,
    /// The number that the plan allows. 0 if the plan does not include the feature. Null if
    /// unlimited.
    pub limit: Option<i32>,
}

/// Keeps the features that this version has, in display order.
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

/// The queries of the catalogue.
#[derive(Debug, Default)]
pub struct PlanQuery;

#[Object]
impl PlanQuery {
    /// The available plans, cheapest first.
    #[graphql(complexity = "list_cost(5, child_complexity)")]
    async fn plans(&self, ctx: &Context<'_>) -> Result<Vec<Plan>> {
        Ok(ops::list(ctx.session()?).await?.into_iter().map(Plan).collect())
    }

    /// The limits of all plans, grouped by plan, as for a pricing page.
    #[graphql(complexity = "list_cost(15, child_complexity)")]
    async fn plan_features(&self, ctx: &Context<'_>) -> Result<Vec<PlanFeature>> {
        let plans = ops::list(ctx.session()?).await?;
        let keys = plans.into_iter().map(|plan| FeaturesOfPlan(plan.plan));
        let keys: Vec<_> = keys.collect();
        let mut rows = ctx.load_many(keys.clone()).await?;
        Ok(keys.iter().flat_map(|key| features(rows.remove(key).unwrap_or_default())).collect())
    }
}
