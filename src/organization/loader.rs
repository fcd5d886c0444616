//! Batched look-ups of organizations. A session sees at most one organization: its own.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use entity::{OrganizationId, organization};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::{
    error::{Error, Result},
    graphql::Reader,
    tenancy::Fetch as _,
};

/// Looks up an organization by id. Only the current one is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct OrganizationById(pub OrganizationId);

impl Loader<OrganizationById> for Reader {
    type Value = organization::Model;
    type Error = Error;

    async fn load(
        &self,
        keys: &[OrganizationById],
    ) -> Result<HashMap<OrganizationById, organization::Model>> {
        let session = self.session()?;
        let rows = organization::Entity::find()
            .filter(organization::Column::Id.eq_any(keys.iter().map(|key| key.0)))
            .fetch(&*session)
            .await?;
        Ok(rows.into_iter().map(|row| (OrganizationById(row.id), row)).collect())
    }
}
