//! Invitations in the GraphQL API for the invited user: the preview of a link, and declining.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use chrono::{DateTime, Utc};

use super::{ops, reference::Reference};
use crate::{
    auth::Role,
    error::{Error, Result},
    graphql::{ContextExt, MutationTarget, STATEMENT, alone, parse_id, rate_limited},
    user::{Obstacle, Received, ReceivedInvitation},
};

#[derive(Debug)]
pub struct InvitationPreview(Received);

/// An invitation as the holder of its link sees it before accepting.
#[Object]
impl InvitationPreview {
    /// The name of the organization.
    async fn organization_name(&self) -> &str {
        &self.0.organization_name
    }

    /// The display name of the user who sent the invitation. Null if they have none.
    async fn inviter_name(&self) -> Option<&str> {
        self.0.inviter_name.as_deref()
    }

    /// The role that the user will have.
    async fn role(&self) -> Role {
        self.0.role.into()
    }

    /// The invited e-mail address, of which only the first letter and the domain are shown.
    async fn email_hint(&self) -> String {
        email_hint(&self.0.email)
    }

    /// When the invitation expires.
    async fn expires_at(&self) -> DateTime<Utc> {
        self.0.expires_at
    }

    /// Why the signed-in user cannot accept. Null if nothing prevents it.
    async fn obstacle(&self, ctx: &Context<'_>) -> Result<Option<Obstacle>> {
        Ok(self.0.obstacle(ctx.session()?))
    }
}

/// The query for an invitation.
#[derive(Debug, Default)]
pub struct InvitationQuery;

#[Object]
impl InvitationQuery {
    /// The invitation of a link, before it is accepted. Null if the token is unknown, expired, used
    /// or revoked, or if the inviter may no longer invite. Does not require an organization.
    ///
    /// Errors: `RATE_LIMITED` after too many attempts.
    #[graphql(
        complexity = "STATEMENT + child_complexity",
        directive = rate_limited::apply()
    )]
    async fn invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The `token` parameter of the invitation link.")] token: String,
    ) -> Result<Option<InvitationPreview>> {
        let found = Reference::Token(token).find(ctx.session()?).await?;
        Ok(found.map(InvitationPreview))
    }
}

/// Input of `declineInvitation`. Exactly one of the fields is required.
#[derive(Debug, InputObject)]
pub struct DeclineInvitationInput {
    /// The `token` parameter of the invitation link.
    pub token: Option<String>,
    /// The ID of one of `Viewer.invitations`.
    pub id: Option<ID>,
}

/// Payload of `declineInvitation`.
#[derive(Debug, SimpleObject)]
pub struct DeclineInvitationPayload {
    /// The declined invitation.
    pub invitation: ReceivedInvitation,
}

/// Parses the two fields with which an input names an invitation.
///
/// # Errors
///
/// [`Error::BadUserInput`] unless exactly one of them is given.
pub fn reference(token: Option<String>, id: Option<&ID>) -> Result<Reference> {
    match (token, id) {
        (Some(token), None) => Ok(Reference::Token(token)),
        (None, Some(id)) => Ok(Reference::Id(parse_id(id))),
        _ => Err(Error::bad_input("input", "must have either `token` or `id`")),
    }
}

/// The mutation of the invited user.
#[derive(Debug, Default)]
pub struct ReceivedInvitationMutation;

#[Object]
impl ReceivedInvitationMutation {
    /// Declines an invitation to a verified address of the caller. Its link no longer works. Does
    /// not require an organization.
    ///
    /// Must be the only field of its mutation. Errors: `NOT_FOUND` if the invitation is not open;
    /// `WRONG_ACCOUNT` or `ADDRESS_NOT_VERIFIED` if it is not for the caller; `CONFLICT` if the
    /// caller is already a member; `RATE_LIMITED` after too many attempts.
    #[graphql(
        directive = alone::apply(MutationTarget::Invited),
        directive = rate_limited::apply()
    )]
    async fn decline_invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The invitation.")] input: DeclineInvitationInput,
    ) -> Result<DeclineInvitationPayload> {
        let reference = reference(input.token, input.id.as_ref())?;
        let declined = ops::decline(ctx.session()?, &reference).await?;
        Ok(DeclineInvitationPayload { invitation: ReceivedInvitation(declined) })
    }
}

/// Hides all but the first letter of the local part.
fn email_hint(email: &str) -> String {
    let (local, domain) = email.split_once('@').unwrap_or((email, ""));
    let first: String = local.chars().take(1).collect();
    format!("{first}•••@{domain}")
}
