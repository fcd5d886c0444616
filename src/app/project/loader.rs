//! Batched look-ups of projects in the current organization.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use entity::app::{ProjectId, project};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::{
    auth::Permission,
    error::{Error, Result},
    graphql::Reader,
    tenancy::Fetch as _,
};

/// Looks up a project of the current organization by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProjectById(pub ProjectId);

impl Loader<ProjectById> for Reader {
    type Value = project::Model;
    type Error = Error;

    async fn load(&self, keys: &[ProjectById]) -> Result<HashMap<ProjectById, project::Model>> {
        let session = self.session()?;
        let tenant = session.authorize(Permission::OrganizationRead)?;
        let rows = project::Entity::find()
            .filter(project::Column::OrganizationId.eq(tenant.organization_id))
            .filter(project::Column::Id.eq_any(keys.iter().map(|key| key.0)))
            .fetch(&*session)
            .await?;
        Ok(rows.into_iter().map(|row| (ProjectById(row.id), row)).collect())
    }
}
