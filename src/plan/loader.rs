//! Batched look-ups of the features of plans.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use entity::plan_feature;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::{
    error::{Error, Result},
    graphql::Reader,
    tenancy::Fetch as _,
};

/// Looks up the features of a plan by its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FeaturesOfPlan(pub String);

impl Loader<FeaturesOfPlan> for Reader {
    type Value = Vec<plan_feature::Model>;
    type Error = Error;

    async fn load(
        &self,
        keys: &[FeaturesOfPlan],
    ) -> Result<HashMap<FeaturesOfPlan, Vec<plan_feature::Model>>> {
        let session = self.session()?;
        let rows = plan_feature::Entity::find()
            .filter(plan_feature::Column::Plan.eq_any(keys.iter().map(|key| key.0.clone())))
            .fetch(&*session)
            .await?;
        let mut features: HashMap<_, Vec<_>> =
            keys.iter().map(|key| (key.clone(), Vec::new())).collect();
        for row in rows {
            features.entry(FeaturesOfPlan(row.plan.clone())).or_default().push(row);
        }
        Ok(features)
    }
}
