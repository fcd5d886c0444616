//! Plans in the GraphQL API: the catalogue of features and plans, and what each plan allows.

use async_graphql::{Context, Enum, Object, SimpleObject};
use entity::{feature, plan, plan_feature};

use super::{
    Allowance,
    loader::{FeaturesOfPlan, PlanByKey},
    ops,
    price::{PlanPrice, PricesOfPlan},
};
use crate::{
    error::{Error, Result},
    graphql::{BigInt, ContextExt, STATEMENT, list_cost},
};

/// What a feature limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entity::FeatureKind")]
pub enum FeatureKind {
    /// The feature is included or not. Nothing is counted.
    Flag,
    /// A number of things that exist, for example projects.
    Count,
    /// Usage that is counted in periods, and starts again at 0 with each.
    Meter,
}

/// The period in which a meter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entity::FeaturePeriod")]
pub enum FeaturePeriod {
    /// The calendar month, in UTC.
    Month,
    /// The billing period of the organization. Without one, the calendar month.
    BillingPeriod,
}

#[derive(Clone, Debug)]
pub struct Feature(pub feature::Model);

/// A feature that plans include and limit. The operator adds features, so show those that your
/// client does not know by their `name` and `unit`.
#[Object]
impl Feature {
    /// The key of the feature, for example `projects`. Keys never change. Errors name it in
    /// `extensions.feature`.
    async fn key(&self) -> &str {
        &self.0.feature
    }

    /// The display name, for example `Team members`.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What the feature limits.
    async fn kind(&self) -> FeatureKind {
        self.0.kind.into()
    }

    /// The singular of what is counted, for example `member`. Null if the name says it.
    async fn unit(&self) -> Option<&str> {
        self.0.unit.as_deref()
    }

    /// The description for users. Null if there is none.
    async fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    /// The period in which a meter counts. Null for other features.
    async fn period(&self) -> Option<FeaturePeriod> {
        self.0.period.map(Into::into)
    }
}

#[derive(Clone, Debug)]
pub struct Plan(pub plan::Model);

/// A plan of the catalogue.
#[Object]
impl Plan {
    /// The key of the plan, for example `pro`. Keys never change.
    async fn key(&self) -> &str {
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

    /// Whether the plan is no longer offered. Organizations that have it keep it.
    async fn is_archived(&self) -> bool {
        self.0.archived_at.is_some()
    }

    /// The prices at which Stripe sells the plan, monthly ones first. Empty if the plan is not for
    /// sale.
    #[graphql(complexity = "list_cost(2, child_complexity)")]
    async fn prices(&self, ctx: &Context<'_>) -> Result<Vec<PlanPrice>> {
        let rows = ctx.load(PricesOfPlan(self.0.plan.clone())).await?.unwrap_or_default();
        Ok(rows.into_iter().map(PlanPrice).collect())
    }

    /// The features of the plan and their limits. A feature without an entry is not included.
    #[graphql(complexity = "list_cost(3, child_complexity)")]
    async fn features(&self, ctx: &Context<'_>) -> Result<Vec<PlanFeature>> {
        let rows = ctx.load(FeaturesOfPlan(self.0.plan.clone())).await?.unwrap_or_default();
        Ok(features(&self.0, rows))
    }
}

/// The limit of a feature in a plan.
#[derive(Debug, SimpleObject)]
pub struct PlanFeature {
    /// The plan.
    pub plan: Plan,
    /// The feature.
    pub feature: Feature,
    /// Whether the plan includes the feature.
    pub enabled: bool,
    /// The number that the plan allows. 0 if the plan does not include the feature. Null if
    /// unlimited, and for included flags.
    pub limit: Option<BigInt>,
}

fn features(
    plan: &plan::Model,
    rows: Vec<(plan_feature::Model, feature::Model)>,
) -> Vec<PlanFeature> {
    let feature = |(row, feature)| {
        let Allowance { enabled, limit, .. } = Allowance::of(&row);
        PlanFeature {
            plan: Plan(plan.clone()),
            feature: Feature(feature),
            enabled,
            limit: limit.map(BigInt),
        }
    };
    rows.into_iter().map(feature).collect()
}

/// Returns the plan with this key, to which a row refers.
pub async fn plan_by_key(ctx: &Context<'_>, key: &str) -> Result<Plan> {
    let plan = ctx.load(PlanByKey(key.to_owned())).await?;
    plan.map(Plan).ok_or_else(|| Error::internal("the catalogue lacks a plan that is in use"))
}

/// The plan as a field of `Organization`.
#[derive(Debug, Default)]
pub struct PlanOfOrganization;

#[Object]
impl PlanOfOrganization {
    /// The plan in effect. This is the default plan if the subscription or the trial has ended.
    #[graphql(complexity = "STATEMENT + child_complexity")]
    async fn plan(&self, ctx: &Context<'_>) -> Result<Plan> {
        Ok(Plan(ops::current(ctx.session()?).await?))
    }
}

/// The queries of the catalogue.
#[derive(Debug, Default)]
pub struct PlanQuery;

#[Object]
impl PlanQuery {
    /// The plans that are offered, cheapest first.
    #[graphql(complexity = "list_cost(5, child_complexity)")]
    async fn plans(&self, ctx: &Context<'_>) -> Result<Vec<Plan>> {
        Ok(ops::list(ctx.session()?).await?.into_iter().map(Plan).collect())
    }

    /// The limits of all plans that are offered, grouped by plan, as for a pricing page.
    #[graphql(complexity = "list_cost(15, child_complexity)")]
    async fn plan_features(&self, ctx: &Context<'_>) -> Result<Vec<PlanFeature>> {
        let plans = ops::list(ctx.session()?).await?;
        let key = |plan: &plan::Model| FeaturesOfPlan(plan.plan.clone());
        let mut rows = ctx.load_many(plans.iter().map(key).collect()).await?;
        let features = |plan| features(plan, rows.remove(&key(plan)).unwrap_or_default());
        Ok(plans.iter().flat_map(features).collect())
    }
}
