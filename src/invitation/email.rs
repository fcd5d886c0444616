//! The letter that invites.

use entity::{InvitationId, invitation, organization, user};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde::Deserialize;

use super::{display_name::quoted, ops::link};
use crate::{
    auth::Permission,
    error::{Error, Result},
    mail::Mail,
    tenancy::{SystemSession, UnitOfWork},
};

/// The same for every invitation: text that a user chose would reach strangers in our name.
const SUBJECT: &str = "You are invited to an organization";

/// What the outbox keeps of an invitation that is to be mailed: not the token, which the database
/// must not know.
#[derive(Debug, Deserialize)]
struct InvitationEmail {
    invitation_id: InvitationId,
    rotation: i32,
}

/// The letter of an outbox row; `None` when the invitation is good no more, or a later letter has a
/// newer link.
///
/// # Errors
///
/// When the row is not one of an invitation.
pub async fn compose(session: &SystemSession, payload: &serde_json::Value) -> Result<Option<Mail>> {
    use invitation::Column;
    let organization_id = session.organization(Permission::MemberInvite)?;
    let letter = InvitationEmail::deserialize(payload).map_err(Error::internal)?;
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
    let inviter = inviter.and_then(|inviter| inviter.name.or(inviter.email));
    let organization = quoted(&organization.name).unwrap_or_else(|| organization.slug.clone());
    let opening = match inviter.as_deref().and_then(quoted) {
        Some(inviter) => format!("{inviter} invites you to the organization {organization}."),
        None => format!("You are invited to the organization {organization}."),
    };
    let text = format!(
        "{opening} Users chose these names.\n\nTo accept, open this link and sign in as {email}:\n\n{link}\n\nIt works once, until \
         {until} UTC. If you did not expect this e-mail, do nothing.\n",
        email = invitation.email,
        link = link(session, &invitation)?,
        until = invitation.expires_at.format("%-d %B %Y, %H:%M"),
    );
    Ok(Some(Mail { to: invitation.email, subject: SUBJECT.to_owned(), text }))
}
