//! People as clients see them.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use chrono::{DateTime, Utc};
use entity::user;

use super::{UserById, identity, ops};
use crate::{
    auth::Role,
    error::{Error, Result},
    graphql::{ContextExt, list_cost, parse_id},
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

    /// The verified e-mail address, in lower case: of the user, or else of the request's token,
    /// where another user had the address first. Null when none is verified.
    async fn email(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let of_token = || ctx.session().map(|session| session.viewer().verified_email.clone());
        self.0.email.clone().map_or_else(of_token, |email| Ok(Some(email)))
    }

    /// The identities that sign in as this user, oldest first.
    #[graphql(complexity = "list_cost(10, child_complexity)")]
    async fn identities(&self, ctx: &Context<'_>) -> Result<Vec<Identity>> {
        let rows = identity::list(ctx.session()?).await?;
        Ok(rows.into_iter().map(Identity).collect())
    }

    /// The organizations of which the person is a member, oldest membership first, whichever one
    /// the request is in.
    #[graphql(complexity = "list_cost(20, child_complexity)")]
    async fn memberships(&self, ctx: &Context<'_>) -> Result<Vec<Membership>> {
        let rows = ops::memberships(ctx.session()?).await?;
        Ok(rows.into_iter().map(Membership).collect())
    }
}

#[derive(Debug)]
pub struct Identity(identity::Identity);

/// An account at an identity provider that signs in as a user.
#[Object]
impl Identity {
    /// The identity's id.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The provider: `iss` of its tokens. Empty when they have none.
    async fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The account there: `sub` of its tokens.
    async fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The verified e-mail address of its newest token, in lower case. Null when none is verified.
    async fn email(&self) -> Option<&str> {
        self.0.email.as_deref()
    }

    /// When it signed in first, and so became one of the user's.
    async fn linked_at(&self) -> DateTime<Utc> {
        self.0.linked_at
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

/// The identity to take away.
#[derive(Debug, InputObject)]
pub struct UnlinkIdentityInput {
    /// The identity's id: see `Viewer.identities`.
    pub id: ID,
}

/// What is left.
#[derive(Debug, SimpleObject)]
pub struct UnlinkIdentityPayload {
    /// The signed-in person.
    pub viewer: Viewer,
}

/// What users change about themselves.
#[derive(Debug, Default)]
pub struct UserMutation;

#[Object]
impl UserMutation {
    /// Takes an identity away from the signed-in user, other than the one that the request's token
    /// is for. When it signs in again it is a new user. Works without an organization; must be the
    /// only root field.
    async fn unlink_identity(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which identity.")] input: UnlinkIdentityInput,
    ) -> Result<UnlinkIdentityPayload> {
        let session = ctx.session()?;
        identity::unlink(session, parse_id(&input.id)).await?;
        let row = ctx.load(UserById(session.viewer().user_id)).await?;
        let row = row.ok_or_else(|| Error::internal("the caller has no row that they may see"))?;
        Ok(UnlinkIdentityPayload { viewer: Viewer(row) })
    }
}
