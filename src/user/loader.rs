//! Batched look-ups of users. Row-level security decides which users the caller may see.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use entity::{UserId, user};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

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
