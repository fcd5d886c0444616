//! Batched look-ups of members in the current organization.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use entity::{MemberId, organization_member};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::{
    auth::Permission,
    error::{Error, Result},
    graphql::Reader,
    tenancy::Fetch as _,
};

/// Looks up a member of the current organization by membership id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemberById(pub MemberId);

impl Loader<MemberById> for Reader {
    type Value = organization_member::Model;
    type Error = Error;

    async fn load(
        &self,
        keys: &[MemberById],
    ) -> Result<HashMap<MemberById, organization_member::Model>> {
        let session = self.session()?;
        let tenant = session.authorize(Permission::OrganizationRead)?;
        let rows = organization_member::Entity::find()
            .filter(organization_member::Column::OrganizationId.eq(tenant.organization_id))
            .filter(organization_member::Column::Id.eq_any(keys.iter().map(|key| key.0)))
            .fetch(&*session)
            .await?;
        Ok(rows.into_iter().map(|row| (MemberById(row.id), row)).collect())
    }
}
