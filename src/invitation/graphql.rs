//! Invitations as clients see them.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use chrono::{DateTime, Utc};
use entity::invitation;

use super::ops;
use crate::{
    auth::{Permission, Role},
    error::{Error, Result},
    graphql::{Connection, ContextExt, STATEMENT, parse_id, requires_permission, to_int},
    tenancy::UnitOfWork,
    text::Email,
    user::{User, UserById},
};

/// An offer of a seat, bound to an e-mail address. It takes a seat of the plan until it is
/// accepted, revoked or expired.
#[derive(Debug)]
pub struct Invitation(pub invitation::Model);

impl From<invitation::Model> for Invitation {
    fn from(row: invitation::Model) -> Self {
        Self(row)
    }
}

/// An offer of a seat, bound to an e-mail address. It takes a seat of the plan until it is
/// accepted, revoked or expired.
#[Object]
impl Invitation {
    /// The invitation's id.
    pub async fn id(&self) -> ID {
        self.0.id.0.into()
    }

    /// The address of the invited person, in lower case.
    async fn email(&self) -> &str {
        &self.0.email
    }

    /// What the person is to be.
    async fn role(&self) -> Role {
        self.0.role.into()
    }

    /// Who invited the person, or resent the invitation last. Null when they have left.
    async fn invited_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        let id = self.0.invited_by?;
        ctx.load(UserById(id)).await.map(|row| row.map(User)).transpose()
    }

    /// Until when it can be accepted.
    async fn expires_at(&self) -> DateTime<Utc> {
        self.0.expires_at
    }

    /// It can no longer be accepted, unless it is resent.
    async fn expired(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.0.expires_at <= ctx.session()?.now())
    }

    /// When the person was invited.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }
}

/// A page of invitations.
pub type InvitationConnection = Connection<Invitation, InvitationTotal>;

/// What the connection of invitations adds to a page.
#[derive(Debug)]
pub struct InvitationTotal;

#[Object]
impl InvitationTotal {
    /// How many there are in all, on whatever page. Counted only when selected.
    #[graphql(complexity = "STATEMENT")]
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let count = ops::count(ctx.session()?).await?;
        Ok(to_int(count.try_into().unwrap_or(i64::MAX)))
    }
}

/// Whom to invite, and to what.
#[derive(Debug, InputObject)]
pub struct InviteMemberInput {
    /// The person's e-mail address, in whatever case.
    pub email: String,
    /// What the person is to be.
    pub role: Role,
}

/// The invitation, and its link.
#[derive(Debug, SimpleObject)]
pub struct InviteMemberPayload {
    /// The open invitation.
    pub invitation: Invitation,
    /// What the invited person must open, signed in with a verified address. Shown here and never
    /// again. Null when the server mails it to them.
    pub link: Option<String>,
}

/// Which invitation.
#[derive(Debug, InputObject)]
pub struct ResendInvitationInput {
    /// The invitation's id.
    pub id: ID,
}

/// The invitation with its new term, and its new link.
#[derive(Debug, SimpleObject)]
pub struct ResendInvitationPayload {
    /// The open invitation.
    pub invitation: Invitation,
    /// What the invited person must open; the link before is good no more. Shown here and never
    /// again. Null when the server mails it to them.
    pub link: Option<String>,
}

/// Which invitation.
#[derive(Debug, InputObject)]
pub struct RevokeInvitationInput {
    /// The invitation's id.
    pub id: ID,
}

/// The invitation that was taken back.
#[derive(Debug, SimpleObject)]
pub struct RevokeInvitationPayload {
    /// The invitation as it was.
    pub invitation: Invitation,
}

/// Changes to invitations.
#[derive(Debug, Default)]
pub struct InvitationMutation;

#[Object]
impl InvitationMutation {
    /// Invites somebody to the current organization. Admins and up; to be an admin or an owner,
    /// owners only. `CONFLICT` for a member or somebody who is invited already,
    /// `PLAN_LIMIT_EXCEEDED` when no seat is free.
    #[graphql(directive = requires_permission::apply(Permission::MemberInvite))]
    async fn invite_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom to invite, and to what.")] input: InviteMemberInput,
    ) -> Result<InviteMemberPayload> {
        ctx.session()?.authorize(Permission::MemberInvite)?;
        let email = Email::parse(&input.email)
            .ok_or_else(|| Error::bad_input("input.email", "is not an e-mail address"))?;
        let issued = ops::invite(ctx.session()?, email, input.role.into()).await?;
        Ok(InviteMemberPayload { invitation: Invitation(issued.invitation), link: issued.link })
    }

    /// Gives an open invitation a new link and a new term, expired or not. Who may is as for
    /// inviting. `PLAN_LIMIT_EXCEEDED` when it had expired and no seat is free.
    #[graphql(directive = requires_permission::apply(Permission::MemberInvite))]
    async fn resend_invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which invitation.")] input: ResendInvitationInput,
    ) -> Result<ResendInvitationPayload> {
        let issued = ops::resend(ctx.session()?, parse_id(&input.id)).await?;
        Ok(ResendInvitationPayload { invitation: Invitation(issued.invitation), link: issued.link })
    }

    /// Takes an open invitation back: its link is good no more. Who may is as for inviting.
    #[graphql(directive = requires_permission::apply(Permission::MemberInvite))]
    async fn revoke_invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which invitation.")] input: RevokeInvitationInput,
    ) -> Result<RevokeInvitationPayload> {
        let invitation = ops::revoke(ctx.session()?, parse_id(&input.id)).await?;
        Ok(RevokeInvitationPayload { invitation: Invitation(invitation) })
    }
}
