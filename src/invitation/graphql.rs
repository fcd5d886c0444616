//! Invitations in the GraphQL API: the type, its connection and its mutations.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use chrono::{DateTime, Utc};
use entity::invitation;

use super::ops;
use crate::{
    auth::{Permission, Role},
    error::{Error, Result},
    graphql::{
        Connection, ContextExt, Loaded, STATEMENT, connection, page_cost, parse_id, rate_limited,
        requires_permission, to_int,
    },
    mail::is_deliverable,
    page::Page,
    tenancy::UnitOfWork,
    text::Email,
    user::{User, UserById},
};

#[derive(Debug)]
pub struct Invitation(pub invitation::Model);

impl From<invitation::Model> for Invitation {
    fn from(row: invitation::Model) -> Self {
        Self(row)
    }
}

/// An invitation to the organization, bound to an e-mail address. It counts towards the plan's
/// `TEAM_MEMBERS` limit until it is accepted, revoked or expired.
#[Object]
impl Invitation {
    /// The ID of the invitation.
    pub async fn id(&self) -> ID {
        self.0.id.0.into()
    }

    /// The e-mail address of the invited user, in lower case.
    async fn email(&self) -> &str {
        &self.0.email
    }

    /// The role that the user will have.
    async fn role(&self) -> Role {
        self.0.role.into()
    }

    /// The user who sent the invitation last. Null if that user has left the organization.
    async fn invited_by(&self, ctx: &Context<'_>) -> Option<Result<Loaded<User>>> {
        let id = self.0.invited_by?;
        ctx.load(UserById(id)).await.map(|row| row.map(User).map(Loaded)).transpose()
    }

    /// When the invitation expires.
    async fn expires_at(&self) -> DateTime<Utc> {
        self.0.expires_at
    }

    /// Whether the invitation has expired. It can be resent.
    async fn expired(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.0.expires_at <= ctx.session()?.now())
    }

    /// When the user was invited.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }
}

/// A page of invitations.
pub type InvitationConnection = Connection<Invitation, InvitationTotal>;

/// The additional fields of the connection.
#[derive(Debug)]
pub struct InvitationTotal;

#[Object]
impl InvitationTotal {
    /// The number of open invitations on all pages. Counted only if selected.
    #[graphql(complexity = "STATEMENT")]
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let count = ops::count(ctx.session()?).await?;
        Ok(to_int(count.try_into().unwrap_or(i64::MAX)))
    }
}

/// Invitations as fields of `Organization`.
#[derive(Debug, Default)]
pub struct InvitationsOfOrganization;

#[Object]
impl InvitationsOfOrganization {
    /// The open invitations, newest first, including expired ones, but not those whose inviter may
    /// no longer invite. Admins and owners only.
    #[graphql(
        complexity = "page_cost(first, last, child_complexity)",
        directive = requires_permission::apply(Permission::MemberInvite)
    )]
    async fn invitations(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The number of items from the start, at most 100. Defaults to 20 without `last`."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "The number of items from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<InvitationConnection>> {
        let invitations = async {
            let page = Page::parse(first, after.as_deref(), last, before.as_deref())?;
            Ok(connection(ops::list(ctx.session()?, &page).await?, InvitationTotal))
        };
        Some(invitations.await)
    }
}

/// Input of `inviteMember`.
#[derive(Debug, InputObject)]
pub struct InviteMemberInput {
    /// The e-mail address of the user. Upper and lower case are equivalent.
    pub email: String,
    /// The role that the user will have.
    pub role: Role,
}

/// Payload of `inviteMember`.
#[derive(Debug, SimpleObject)]
pub struct InviteMemberPayload {
    /// The new invitation.
    pub invitation: Invitation,
    /// The link for the invited user, who must sign in with the invited e-mail address. It is
    /// returned only here. Null if the server sends it by e-mail.
    pub link: Option<String>,
}

/// Input of `resendInvitation`.
#[derive(Debug, InputObject)]
pub struct ResendInvitationInput {
    /// The ID of the invitation.
    pub id: ID,
}

/// Payload of `resendInvitation`.
#[derive(Debug, SimpleObject)]
pub struct ResendInvitationPayload {
    /// The renewed invitation.
    pub invitation: Invitation,
    /// The new link for the invited user. The former link no longer works. It is returned only
    /// here. Null if the server sends it by e-mail.
    pub link: Option<String>,
}

/// Input of `revokeInvitation`.
#[derive(Debug, InputObject)]
pub struct RevokeInvitationInput {
    /// The ID of the invitation.
    pub id: ID,
}

/// Payload of `revokeInvitation`.
#[derive(Debug, SimpleObject)]
pub struct RevokeInvitationPayload {
    /// The revoked invitation.
    pub invitation: Invitation,
}

/// The mutations of invitations.
#[derive(Debug, Default)]
pub struct InvitationMutation;

#[Object]
impl InvitationMutation {
    /// Invites a user to the current organization. Admins can invite viewers and members. Owners
    /// can invite to any role.
    ///
    /// Errors: `CONFLICT` if the address belongs to a member or has an open invitation;
    /// `PLAN_LIMIT_EXCEEDED` if the plan allows no more members; `RATE_LIMITED` after too many
    /// attempts or invitation e-mails; `BAD_USER_INPUT` for an invalid address.
    #[graphql(
        directive = requires_permission::apply(Permission::MemberInvite),
        directive = rate_limited::apply()
    )]
    async fn invite_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The user to invite, and their role.")] input: InviteMemberInput,
    ) -> Result<InviteMemberPayload> {
        ctx.session()?.authorize(Permission::MemberInvite)?;
        let email = Email::parse(&input.email)
            .filter(|email| is_deliverable(email.as_str()))
            .ok_or_else(|| Error::bad_input("input.email", "is not a valid e-mail address"))?;
        let issued = ops::invite(ctx.session()?, email, input.role.into()).await?;
        Ok(InviteMemberPayload { invitation: Invitation(issued.invitation), link: issued.link })
    }

    /// Renews an open or expired invitation with a new link and expiry. The required role is the
    /// same as for inviting.
    ///
    /// Errors: `NOT_FOUND` if there is no open invitation with this ID; `PLAN_LIMIT_EXCEEDED` if it
    /// had expired and the plan allows no more members; `RATE_LIMITED` after too many attempts or
    /// invitation e-mails.
    #[graphql(
        directive = requires_permission::apply(Permission::MemberInvite),
        directive = rate_limited::apply()
    )]
    async fn resend_invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The invitation.")] input: ResendInvitationInput,
    ) -> Result<ResendInvitationPayload> {
        let issued = ops::resend(ctx.session()?, parse_id(&input.id)).await?;
        Ok(ResendInvitationPayload { invitation: Invitation(issued.invitation), link: issued.link })
    }

    /// Revokes an open invitation. Its link no longer works. The required role is the same as for
    /// inviting.
    ///
    /// Errors: `NOT_FOUND` if there is no open invitation with this ID.
    #[graphql(directive = requires_permission::apply(Permission::MemberInvite))]
    async fn revoke_invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The invitation.")] input: RevokeInvitationInput,
    ) -> Result<RevokeInvitationPayload> {
        let invitation = ops::revoke(ctx.session()?, parse_id(&input.id)).await?;
        Ok(RevokeInvitationPayload { invitation: Invitation(invitation) })
    }
}
