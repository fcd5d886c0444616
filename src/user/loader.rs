//! Batched look-ups of users. Row-level security decides which users the caller may see. What only
//! the control database knows of the caller is read once, however many fields ask for it.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use entity::{UserId, user};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{
    identity::{self, Identity},
    ops::{self, Membership},
};
use crate::{
    error::{Error, Result},
    graphql::Reader,
    tenancy::Fetch as _,
};

/// Looks up a user by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserById(pub UserId);

impl Loader<UserById> for Reader {
    type Value = user::Model;
    type Error = Error;

    async fn load(&self, keys: &[UserById]) -> Result<HashMap<UserById, user::Model>> {
        let session = self.session()?;
        let rows = user::Entity::find()
            .filter(user::Column::Id.eq_any(keys.iter().map(|key| key.0)))
            .fetch(&*session)
            .await?;
        Ok(rows.into_iter().map(|row| (UserById(row.id), row)).collect())
    }
}

/// The caller's memberships.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ViewerMemberships;

impl Loader<ViewerMemberships> for Reader {
    type Value = Vec<Membership>;
    type Error = Error;

    async fn load(
        &self,
        _: &[ViewerMemberships],
    ) -> Result<HashMap<ViewerMemberships, Vec<Membership>>> {
        let memberships = ops::memberships(&*self.session()?).await?;
        Ok(HashMap::from([(ViewerMemberships, memberships)]))
    }
}

/// The caller's identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ViewerIdentities;

impl Loader<ViewerIdentities> for Reader {
    type Value = Vec<Identity>;
    type Error = Error;

    async fn load(
        &self,
        _: &[ViewerIdentities],
    ) -> Result<HashMap<ViewerIdentities, Vec<Identity>>> {
        let identities = identity::list(&*self.session()?).await?;
        Ok(HashMap::from([(ViewerIdentities, identities)]))
    }
}
