//! Global object identification in the GraphQL API: `node`, `nodes` and the interface `Node`.

use async_graphql::{Context, ID, Interface, Object};
use uuid::Uuid;

use super::{loader::NodeById, ops::Found};
use crate::{
    error::{Error, Result},
    graphql::{ContextExt, parse_id},
    invitation::Invitation,
    member::Member,
    organization::Organization,
    project::Project,
    user::User,
};

/// The maximum number of objects that one field looks up.
const MAX_NODES: usize = 100;

/// An object that can be fetched by its ID.
#[derive(Debug, Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "The ID of the object, a UUID."))]
pub enum Node {
    /// The current organization.
    Organization(Organization),
    /// A membership in the current organization.
    Member(Member),
    /// An open invitation to the current organization. Admins and owners only.
    Invitation(Invitation),
    /// A project of the current organization.
    Project(Project),
    /// The caller, or a member of the current organization.
    User(User),
}

impl From<Found> for Node {
    fn from(found: Found) -> Self {
        match found {
            Found::Organization(row) => Self::Organization(row.into()),
            Found::Member(row) => Self::Member(row.into()),
            Found::Invitation(row) => Self::Invitation(row.into()),
            Found::Project(row) => Self::Project(row.into()),
            Found::User(row) => Self::User(row.into()),
        }
    }
}

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
        let key = NodeById(parse_id(&id)?);
        ctx.load(key).await.map(|found| found.map(Node::from)).transpose()
    }

    /// The objects with these IDs in the current organization, in the order of the IDs. An entry is
    /// null if there is no such object. Errors: `BAD_USER_INPUT` for more than 100 IDs.
    #[graphql(complexity = "1 + ids.len() * child_complexity")]
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The IDs of the objects. At most 100.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Node>>> {
        require_at_most_max_nodes("ids", ids.len())?;
        find_nodes(ctx, ids.iter().map(parse_id).collect()).await
    }
}

/// Rejects an argument that names too many objects.
///
/// # Errors
///
/// [`Error::BadUserInput`] for more than 100 objects.
pub fn require_at_most_max_nodes(argument: &'static str, count: usize) -> Result<()> {
    if count > MAX_NODES {
        return Err(Error::bad_input(argument, format!("must have at most {MAX_NODES} entries")));
    }
    Ok(())
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
    let node = |id: Option<Uuid>| found.get(&NodeById(id?)).cloned().map(Node::from);
    Ok(ids.into_iter().map(node).collect())
}
