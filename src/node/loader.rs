//! Batched look-ups of objects of any type in the current organization.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use uuid::Uuid;

use super::ops::{self, Found};
use crate::{
    error::{Error, Result},
    graphql::Reader,
};

/// Looks up an object of the current organization by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NodeById(pub Uuid);

impl Loader<NodeById> for Reader {
    type Value = Found;
    type Error = Error;

    async fn load(&self, keys: &[NodeById]) -> Result<HashMap<NodeById, Found>> {
        let session = self.session()?;
        let ids: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let found = ops::find_many(&session, &ids).await?;
        Ok(found.into_iter().map(|(id, found)| (NodeById(id), found)).collect())
    }
}
