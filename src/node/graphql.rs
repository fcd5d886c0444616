//! Global object identification in the GraphQL API: `node` and `nodes`.

use async_graphql::{Context, ID, Object};
use uuid::Uuid;

use super::loader::NodeById;
use crate::{
    error::{Error, Result},
    graphql::{ContextExt, Node, parse_id},
};

/// The maximum number of objects that `nodes` looks up.
const MAX_NODES: usize = 100;

/// The queries by ID.
#[derive(Debug, Default)]
pub struct NodeQuery;

#[Object]
impl NodeQuery {
    /// The object with this ID in the current organization. Null if there is none, and without an
    /// organization.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the object.")] id: ID,
    ) -> Option<Result<Node>> {
        ctx.load(NodeById(parse_id(&id)?)).await.transpose()
    }

    /// The objects with these IDs in the current organization, in the order of the IDs. An entry is
    /// null if there is no such object. Errors: `BAD_USER_INPUT` for more than 100 IDs.
    #[graphql(complexity = "1 + ids.len() * child_complexity")]
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The IDs of the objects. At most 100.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Node>>> {
        if ids.len() > MAX_NODES {
            return Err(Error::bad_input("ids", format!("must have at most {MAX_NODES} entries")));
        }
        find_nodes(ctx, ids.iter().map(parse_id).collect()).await
    }
}

/// Finds the objects with these IDs in the current organization, in the order of the IDs, with one
/// statement. `None` is a malformed ID, for which there is no object.
///
/// # Errors
///
/// Fails when the database does.
pub async fn find_nodes(ctx: &Context<'_>, ids: Vec<Option<Uuid>>) -> Result<Vec<Option<Node>>> {
    let keys = ids.iter().flatten().copied().map(NodeById).collect();
    let found = ctx.load_many(keys).await?;
    let node = |id: Option<Uuid>| found.get(&NodeById(id?)).cloned();
    Ok(ids.into_iter().map(node).collect())
}
