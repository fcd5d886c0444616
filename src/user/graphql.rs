//! People as clients see them.

use async_graphql::{Context, ID, Object};
use chrono::{DateTime, Utc};
use entity::user;

use super::{UserById, ops};
use crate::{
    auth::Role,
    error::{Error, Result},
    graphql::{ContextExt, list_cost},
};

#[derive(Debug)]
pub struct User(pub user::Model);

impl From<user::Model> for User {
    fn from(row: user::Model) -> Self {
        Self(row)
    }
}

/// A person.
#[Object]
impl User {
    /// The person's id.
    pub async fn id(&self) -> ID {
        self.0.id.0.into()
    }

    /// What to call the person. Null when their identity provider does not say.
    async fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// The verified e-mail address, in lower case. Null when none is verified.
    async fn email(&self) -> Option<&str> {
        self.0.email.as_deref()
    }
}

#[derive(Debug)]
pub struct Viewer(user::Model);

/// The signed-in person.
#[Object]
impl Viewer {
    /// The person's id, the same as in `User.id`.
    async fn id(&self) -> ID {
        self.0.id.0.into()
    }

    /// What to call the person. Null when their identity provider does not say.
    async fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// The verified e-mail address, in lower case. Null when none is verified.
    async fn email(&self) -> Option<&str> {
        self.0.email.as_deref()
    }

    /// The organizations of which the person is a member, oldest membership first, whichever one the request is in.
    #[graphql(complexity = "list_cost(20, child_complexity)")]
    async fn memberships(&self, ctx: &Context<'_>) -> Result<Vec<Membership>> {
        let rows = ops::memberships(ctx.session()?).await?;
        Ok(rows.into_iter().map(Membership).collect())
    }
}

#[derive(Debug)]
pub struct Membership(ops::Membership);

/// A person's seat in an organization. To see the organization itself, send a request to it.
#[Object]
impl Membership {
    /// The organization's id.
    async fn organization_id(&self) -> ID {
        self.0.organization_id.0.into()
    }

    /// The organization's name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The organization's slug: requests to it go to `/org/{slug}/graphql`.
    async fn slug(&self) -> &str {
        &self.0.slug
    }

    /// The person's role in it.
    async fn role(&self) -> Role {
        self.0.role.into()
    }

    /// When the person joined.
    async fn joined_at(&self) -> DateTime<Utc> {
        self.0.joined_at
    }
}

/// Who asks.
#[derive(Debug, Default)]
pub struct UserQuery;

#[Object]
impl UserQuery {
    /// The signed-in person. Works without an organization.
    async fn viewer(&self, ctx: &Context<'_>) -> Result<Viewer> {
        let id = ctx.session()?.viewer().user_id;
        let row = ctx.load(UserById(id)).await?;
        row.map(Viewer).ok_or_else(|| Error::internal("the caller has no row that they may see"))
    }
}
