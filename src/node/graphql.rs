//! Objects of any type as clients see them.

use async_graphql::{Context, ID, Interface, Object};

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

/// The most ids that `nodes` takes.
const MAX_NODES: usize = 100;

/// An object with an id by which it can be fetched again.
#[derive(Debug, Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "The object's id: a UUID."))]
pub enum Node {
    /// The current organization.
    Organization(Organization),
    /// A seat in it.
    Member(Member),
    /// An open invitation to it, for those who may see invitations.
    Invitation(Invitation),
    /// A project of it.
    Project(Project),
    /// A person who is in it, or oneself.
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

/// Look-ups by id.
#[derive(Debug, Default)]
pub struct NodeQuery;

#[Object]
impl NodeQuery {
    /// The object with this id in the current organization. Null when there is none, and without an
    /// organization.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The object's id.")] id: ID,
    ) -> Option<Result<Node>> {
        let key = NodeById(parse_id(&id)?);
        ctx.load(key).await.map(|found| found.map(Node::from)).transpose()
    }

    /// The objects with these ids in the current organization, at most 100, each in the place of
    /// its id; null where there is none.
    #[graphql(complexity = "1 + ids.len() * child_complexity")]
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The objects' ids: at most 100.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Node>>> {
        if ids.len() > MAX_NODES {
            return Err(Error::bad_input("ids", format!("must have at most {MAX_NODES} entries")));
        }
        let keys: Vec<Option<NodeById>> = ids.iter().map(|id| parse_id(id).map(NodeById)).collect();
        let found = ctx.load_many(keys.iter().copied().flatten().collect()).await?;
        let node = |key: Option<NodeById>| found.get(&key?).cloned().map(Node::from);
        Ok(keys.into_iter().map(node).collect())
    }
}
