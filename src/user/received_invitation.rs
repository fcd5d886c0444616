//! Invitations as the invited user sees them, before they belong to the organization. Only the
//! control database knows all of them.

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use entity::{InvitationId, OrgRole};
use sea_orm::QueryResult;

use crate::{
    auth::Permission,
    error::{Error, Result},
    sql::sql,
    tenancy::{Session, UnitOfWork as _},
};

/// An open invitation that has not expired.
#[derive(Clone, Debug)]
pub struct Received {
    /// The id.
    pub id: InvitationId,
    /// The hash of its token.
    pub token_hash: Vec<u8>,
    /// The name of the organization.
    pub organization_name: String,
    /// The display name of the inviter.
    pub inviter_name: Option<String>,
    /// The role that the user will have.
    pub role: OrgRole,
    /// The invited address.
    pub email: String,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// The caller's verified address, which is not necessarily that of the token.
    user_email: Option<String>,
    is_member: bool,
}

/// Why the signed-in user cannot accept an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "InvitationObstacle")]
pub enum Obstacle {
    /// The invitation is for another e-mail address. The user can sign in with the account that has
    /// it, or ask for another invitation.
    WrongAccount,
    /// The identity provider has not verified the user's e-mail address. The user can verify it and
    /// sign in again.
    AddressNotVerified,
    /// The user is already a member of the organization.
    AlreadyMember,
}

impl Received {
    /// Why the caller cannot accept; `None` if nothing prevents it.
    #[must_use]
    pub fn obstacle(&self, session: &Session) -> Option<Obstacle> {
        let viewer = session.viewer();
        let is = |address: &Option<String>| address.as_ref() == Some(&self.email);
        if is(&self.user_email) || is(&viewer.verified_email) {
            return self.is_member.then_some(Obstacle::AlreadyMember);
        }
        let [verified, other, unverified] =
            [&self.user_email, &viewer.verified_email, &viewer.unverified_email]
                .map(Option::is_some);
        if is(&viewer.unverified_email) || !(verified || other || unverified) {
            return Some(Obstacle::AddressNotVerified);
        }
        Some(Obstacle::WrongAccount)
    }

    /// Refuses a caller who cannot accept.
    ///
    /// # Errors
    ///
    /// Returns the error for the obstacle.
    pub fn require_no_obstacle(&self, session: &Session) -> Result<()> {
        match self.obstacle(session) {
            None => Ok(()),
            Some(Obstacle::WrongAccount) => Err(Error::WrongAccount),
            Some(Obstacle::AddressNotVerified) => Err(Error::AddressNotVerified),
            Some(Obstacle::AlreadyMember) => {
                Err(Error::Conflict("You are already a member of this organization.".to_owned()))
            }
        }
    }
}

/// Lists the invitations that the caller can accept, newest first, at most 100.
///
/// # Errors
///
/// Fails when the database fails.
pub async fn invitations(session: &Session) -> Result<Vec<Received>> {
    let mut received = query(session, None).await?;
    received.retain(|received| received.obstacle(session).is_none());
    Ok(received)
}

/// Finds the invitation whose token has this hash.
///
/// # Errors
///
/// Fails when the database fails.
pub async fn find_invitation(session: &Session, token_hash: Vec<u8>) -> Result<Option<Received>> {
    Ok(query(session, Some(token_hash)).await?.into_iter().next())
}

async fn query(session: &Session, token_hash: Option<Vec<u8>>) -> Result<Vec<Received>> {
    let find = sql("SELECT * FROM auth.find_invitations($1)", [token_hash.into()]);
    let rows = session.read_control(find).await?;
    let received = rows.iter().filter_map(|row| received(row).transpose());
    let open = received.filter(|received| {
        received.as_ref().map_or(true, |received| received.expires_at > session.now())
    });
    open.collect()
}

/// Reads a row; `None` if the inviter may no longer invite.
fn received(row: &QueryResult) -> Result<Option<Received>> {
    let (inviter_role, role) = (row.try_get("", "inviter_role")?, row.try_get("", "role")?);
    if !Permission::allow_inviting(inviter_role, role) {
        return Ok(None);
    }
    Ok(Some(Received {
        id: row.try_get("", "id")?,
        token_hash: row.try_get("", "token_hash")?,
        organization_name: row.try_get("", "organization_name")?,
        inviter_name: row.try_get("", "inviter_name")?,
        role,
        email: row.try_get("", "email")?,
        expires_at: row.try_get("", "expires_at")?,
        user_email: row.try_get("", "user_email")?,
        is_member: row.try_get("", "is_member")?,
    }))
}
