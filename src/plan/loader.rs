//! Batched look-ups of plans and of their features.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use entity::{feature, plan, plan_feature};
use sea_orm::{ColumnTrait, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect};

use crate::{
    error::{Error, Result},
    graphql::Reader,
    tenancy::Fetch as _,
};

/// Looks up a plan by its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PlanByKey(pub String);

impl Loader<PlanByKey> for Reader {
    type Value = plan::Model;
    type Error = Error;

    async fn load(&self, keys: &[PlanByKey]) -> Result<HashMap<PlanByKey, plan::Model>> {
        let session = self.session()?;
        let rows = plan::Entity::find()
            .filter(plan::Column::Plan.eq_any(keys.iter().map(|key| key.0.clone())))
            .fetch(&*session)
            .await?;
        Ok(rows.into_iter().map(|row| (PlanByKey(row.plan.clone()), row)).collect())
    }
}

/// Looks up the features of a plan by its key, in display order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FeaturesOfPlan(pub String);

impl Loader<FeaturesOfPlan> for Reader {
    type Value = Vec<(plan_feature::Model, feature::Model)>;
    type Error = Error;

    async fn load(&self, keys: &[FeaturesOfPlan]) -> Result<HashMap<FeaturesOfPlan, Self::Value>> {
        let session = self.session()?;
        let feature_of_row = plan_feature::Entity::belongs_to(feature::Entity)
            .from(plan_feature::Column::Feature)
            .to(feature::Column::Feature);
        let rows = plan_feature::Entity::find()
            .filter(plan_feature::Column::Plan.eq_any(keys.iter().map(|key| key.0.clone())))
            .join(JoinType::InnerJoin, feature_of_row.into())
            .select_also(feature::Entity)
            .order_by_asc(feature::Column::Position)
            .order_by_asc(feature::Column::Feature)
            .fetch(&*session)
            .await?;
        let mut features: HashMap<_, Vec<_>> = HashMap::new();
        for (row, feature) in rows {
            if let Some(feature) = feature {
                features.entry(FeaturesOfPlan(row.plan.clone())).or_default().push((row, feature));
            }
        }
        Ok(features)
    }
}
