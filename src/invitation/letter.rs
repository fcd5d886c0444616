//! The letter that invites.

use entity::{InvitationId, invitation, organization, user};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde::Deserialize;

use super::ops::link;
use crate::{
    auth::Permission,
    error::{Error, Result},
    mail::Mail,
    tenancy::{Scope, SystemSession},
};

/// What the outbox keeps of an invitation that is to be mailed: not the token, which the database must not know.
#[derive(Debug, Deserialize)]
struct Letter {
    invitation_id: InvitationId,
    rotation: i32,
}

/// The letter of an outbox row; `None` when the invitation is good no more, or a later letter has a newer link.
///
/// # Errors
///
/// When the row is not one of an invitation.
pub async fn compose(session: &SystemSession, payload: &serde_json::Value) -> Result<Option<Mail>> {
    use invitation::Column;
    let organization_id = session.organization(Permission::MemberInvite)?;
    let letter = Letter::deserialize(payload).map_err(Error::internal)?;
    let invitation = invitation::Entity::find_by_id((organization_id, letter.invitation_id))
        .filter(Column::Rotation.eq(letter.rotation))
        .filter(Column::AcceptedAt.is_null())
        .filter(Column::RevokedAt.is_null())
        .filter(Column::ExpiresAt.gt(session.now()))
        .one(session)
        .await?;
    let organization = organization::Entity::find_by_id(organization_id).one(session).await?;
    let (Some(invitation), Some(organization)) = (invitation, organization) else {
        return Ok(None);
    };
    let inviter = match invitation.invited_by {
        Some(id) => user::Entity::find_by_id(id).one(session).await?,
        None => None,
    };
    let name = &organization.name;
    let subject = match inviter.and_then(|inviter| inviter.name.or(inviter.email)) {
        Some(inviter) => format!("{inviter} invited you to {name}"),
        None => format!("You are invited to {name}"),
    };
    let text = format!(
        "{subject}.\n\nTo accept, open this link and sign in as {email}:\n\n{link}\n\nIt works once, until {until} UTC. If you did not \
         expect this letter, do nothing.\n",
        email = invitation.email,
        link = link(session, &invitation)?,
        until = invitation.expires_at.format("%-d %B %Y, %H:%M"),
    );
    Ok(Some(Mail { to: invitation.email, subject, text }))
}
