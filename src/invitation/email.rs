//! Composes the invitation e-mail. Text chosen by users appears in it only in quotation marks.

use entity::{InvitationId, invitation, organization, user};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use serde::Deserialize;

use super::{ops::link, quoted_name::quoted};
use crate::{
    error::{Error, Result},
    mail::Mail,
    seats::IS_OPEN,
    tenancy::{Fetch as _, SystemSession, UnitOfWork},
};

/// The same for every invitation: text chosen by a user must not reach strangers in our name.
const SUBJECT: &str = "You are invited to an organization";

/// The outbox payload of an invitation. It omits the token, which must not be in the database.
#[derive(Debug, Deserialize)]
struct InvitationEmail {
    invitation_id: InvitationId,
    rotation: i32,
}

/// Composes the e-mail of an outbox row. Returns `None` if the invitation is no longer open, or a
/// later e-mail has a newer link.
///
/// # Errors
///
/// Fails when the payload is not that of an invitation.
pub async fn compose(session: &SystemSession, payload: &serde_json::Value) -> Result<Option<Mail>> {
    use invitation::Column;
    let organization_id = session.organization_id()?;
    let queued = InvitationEmail::deserialize(payload).map_err(Error::internal)?;
    let invitation = invitation::Entity::find_by_id((organization_id, queued.invitation_id))
        .filter(Column::Rotation.eq(queued.rotation))
        .filter(Expr::cust(IS_OPEN.as_str()))
        .filter(Column::ExpiresAt.gt(session.now()))
        .fetch_one(session)
        .await?;
    let organization = organization::Entity::find_by_id(organization_id).fetch_one(session).await?;
    let (Some(invitation), Some(organization)) = (invitation, organization) else {
        return Ok(None);
    };
    let inviter = match invitation.invited_by {
        Some(id) => user::Entity::find_by_id(id).fetch_one(session).await?,
        None => None,
    };
    let inviter = inviter.and_then(|inviter| inviter.name.or(inviter.email));
    let organization = quoted(&organization.name).unwrap_or_else(|| organization.slug.clone());
    let opening = match inviter.as_deref().and_then(quoted) {
        Some(inviter) => format!("{inviter} invites you to the organization {organization}."),
        None => format!("You are invited to the organization {organization}."),
    };
    let text = format!(
        "{opening} These names were chosen by users.\n\nTo accept, open this link and sign in as \
         {email}:\n\n{link}\n\nThe link works once and expires on {until} UTC. If you did not expect \
         this e-mail, ignore it.\n",
        email = invitation.email,
        link = link(session, &invitation)?,
        until = invitation.expires_at.format("%-d %B %Y, %H:%M"),
    );
    Ok(Some(Mail { to: invitation.email, subject: SUBJECT.to_owned(), text }))
}
