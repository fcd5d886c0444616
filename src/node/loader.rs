//! Batched look-ups of objects of any type in the current organization.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use uuid::Uuid;

use super::ops;
use crate::{
    error::{Error, Result},
    graphql::{Node, Reader},
};

/// Looks up an object of the current organization by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NodeById(pub Uuid);

impl Loader<NodeById> for Reader {
    type Value = Node;
    type Error = Error;

    async fn load(&self, keys: &[NodeById]) -> Result<HashMap<NodeById, Node>> {
        let session = self.session()?;
        let ids: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let found = ops::find_many(&session, &ids).await?;
        Ok(found.into_iter().map(|(id, node)| (NodeById(id), node)).collect())
    }
}
