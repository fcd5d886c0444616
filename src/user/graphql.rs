//! Users in the GraphQL API: the caller with their identities and memberships, and the users of the
//! current organization.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};
use chrono::{DateTime, Utc};
use entity::user;

use super::{
    UserById, identity,
    loader::{ViewerIdentities, ViewerMemberships},
    ops,
    received_graphql::ReceivedInvitation,
    received_invitation,
};
use crate::{
    auth::Role,
    edit::Edit,
    error::{Error, Result},
    graphql::{ContextExt, MutationTarget, alone, list_cost, nullable, parse_id},
    text::Line,
};

#[derive(Debug)]
pub struct User(pub user::Model);

impl From<user::Model> for User {
    fn from(row: user::Model) -> Self {
        Self(row)
    }
}

/// A user.
#[Object]
impl User {
    /// The ID of the user.
    pub async fn id(&self) -> ID {
        self.0.id.0.into()
    }

    /// The display name: that of the identity provider, unless the user has chosen one. Null if
    /// neither provides one.
    async fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// The https address of the user's picture at the identity provider. Null if it provides none.
    async fn picture_url(&self) -> Option<&str> {
        self.0.picture.as_deref()
    }

    /// The verified e-mail address, in lower case. Null if none is verified.
    async fn email(&self) -> Option<&str> {
        self.0.email.as_deref()
    }
}

#[derive(Debug)]
pub struct Viewer(user::Model);

/// The signed-in user.
#[Object]
impl Viewer {
    /// The ID of the user, the same as `User.id`.
    async fn id(&self) -> ID {
        self.0.id.0.into()
    }

    /// The display name: that of the identity provider, unless the user has chosen one. Null if
    /// neither provides one.
    async fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// The https address of the user's picture at the identity provider. Null if it provides none.
    async fn picture_url(&self) -> Option<&str> {
        self.0.picture.as_deref()
    }

    /// The verified e-mail address, in lower case. If another user already has the address of the
    /// token, the user has none, and this is the token's. Null if none is verified.
    async fn email(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let of_token = || ctx.session().map(|session| session.viewer().verified_email.clone());
        self.0.email.clone().map_or_else(of_token, |email| Ok(Some(email)))
    }

    /// The identities that sign in as this user, oldest first.
    #[graphql(complexity = "list_cost(10, child_complexity)")]
    async fn identities(&self, ctx: &Context<'_>) -> Result<Vec<Identity>> {
        let rows = ctx.load(ViewerIdentities).await?.unwrap_or_default();
        Ok(rows.into_iter().map(Identity).collect())
    }

    /// The user's memberships in all organizations, oldest first.
    #[graphql(complexity = "list_cost(20, child_complexity)")]
    async fn memberships(&self, ctx: &Context<'_>) -> Result<Vec<Membership>> {
        let rows = ctx.load(ViewerMemberships).await?.unwrap_or_default();
        Ok(rows.into_iter().map(Membership).collect())
    }

    /// The open invitations to the user's verified e-mail address, newest first, at most 100. They
    /// can be accepted or declined by ID, without their link.
    #[graphql(complexity = "list_cost(10, child_complexity)")]
    async fn invitations(&self, ctx: &Context<'_>) -> Result<Vec<ReceivedInvitation>> {
        let received = received_invitation::invitations(ctx.session()?).await?;
        Ok(received.into_iter().map(ReceivedInvitation).collect())
    }
}

#[derive(Debug)]
pub struct Identity(identity::Identity);

/// An account at an identity provider that signs in as a user.
#[Object]
impl Identity {
    /// The ID of the identity.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The identity provider: the claim `iss` of its tokens. Empty if they have none.
    async fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The account at the provider: the claim `sub` of its tokens.
    async fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The verified e-mail address in its newest token, in lower case. Null if none is verified.
    async fn email(&self) -> Option<&str> {
        self.0.email.as_deref()
    }

    /// When the identity first signed in and was linked to the user.
    async fn linked_at(&self) -> DateTime<Utc> {
        self.0.linked_at
    }
}

#[derive(Debug)]
pub struct Membership(ops::Membership);

/// A user's membership in an organization. To read more of the organization, send a request to it.
#[Object]
impl Membership {
    /// The ID of the organization.
    async fn organization_id(&self) -> ID {
        self.0.organization_id.0.into()
    }

    /// The name of the organization.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The slug of the organization. Its requests go to `/org/{slug}/graphql`.
    async fn slug(&self) -> &str {
        &self.0.slug
    }

    /// The user's role in the organization.
    async fn role(&self) -> Role {
        self.0.role.into()
    }

    /// When the user joined.
    async fn joined_at(&self) -> DateTime<Utc> {
        self.0.joined_at
    }
}

/// The query for the signed-in user.
#[derive(Debug, Default)]
pub struct UserQuery;

#[Object]
impl UserQuery {
    /// The signed-in user. Does not require an organization.
    async fn viewer(&self, ctx: &Context<'_>) -> Result<Viewer> {
        viewer(ctx).await
    }
}

async fn viewer(ctx: &Context<'_>) -> Result<Viewer> {
    let row = ctx.load(UserById(ctx.session()?.viewer().user_id)).await?;
    row.map(Viewer).ok_or_else(|| Error::internal("the caller's own user is not visible"))
}

/// Input of `unlinkIdentity`.
#[derive(Debug, InputObject)]
pub struct UnlinkIdentityInput {
    /// The ID of the identity: see `Viewer.identities`.
    pub id: ID,
}

/// Payload of `unlinkIdentity`.
#[derive(Debug, SimpleObject)]
pub struct UnlinkIdentityPayload {
    /// The signed-in user.
    pub viewer: Viewer,
}

/// Input of `updateViewer`. An omitted field stays unchanged.
#[derive(Debug, InputObject)]
pub struct UpdateViewerInput {
    /// The display name, 1 to 200 characters. With null, the name follows the identity provider
    /// again.
    pub name: MaybeUndefined<String>,
}

/// Payload of `updateViewer`.
#[derive(Debug, SimpleObject)]
pub struct UpdateViewerPayload {
    /// The signed-in user.
    pub viewer: Viewer,
}

/// The mutations of the signed-in user.
#[derive(Debug, Default)]
pub struct UserMutation;

#[Object]
impl UserMutation {
    /// Unlinks an identity from the signed-in user. If it signs in again, it is a new user. Does
    /// not require an organization.
    ///
    /// Must be the only field of its mutation. Errors: `CONFLICT` for the identity of the request's
    /// token; `NOT_FOUND` if the user has no such identity.
    #[graphql(directive = alone::apply(MutationTarget::User))]
    async fn unlink_identity(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The identity.")] input: UnlinkIdentityInput,
    ) -> Result<UnlinkIdentityPayload> {
        let session = ctx.session()?;
        identity::unlink(session, parse_id(&input.id)).await?;
        Ok(UnlinkIdentityPayload { viewer: viewer(ctx).await? })
    }

    /// Changes the signed-in user. A chosen name is shown in all organizations, and tokens no
    /// longer change it. Does not require an organization.
    ///
    /// Must be the only field of its mutation. Errors: `BAD_USER_INPUT` for an invalid name.
    #[graphql(directive = alone::apply(MutationTarget::User))]
    async fn update_viewer(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new values.")] input: UpdateViewerInput,
    ) -> Result<UpdateViewerPayload> {
        if let Edit::Set(name) = nullable(input.name) {
            let name = name.map(|name| Line::parse("input.name", &name)).transpose()?;
            ops::rename(ctx.session()?, name).await?;
        }
        Ok(UpdateViewerPayload { viewer: viewer(ctx).await? })
    }
}
