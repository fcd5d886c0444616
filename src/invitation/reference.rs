//! How the invited user names an invitation.

use entity::InvitationId;

use super::token::Token;
use crate::{
    error::Result,
    tenancy::{InvitationKey, Session},
    user::{self, Received},
};

/// The name of an invitation, for the invited user.
#[derive(Clone, PartialEq, Eq)]
pub enum Reference {
    /// The token in its link.
    Token(String),
    /// Its id, if it is for one of the user's addresses. `None` is an id that no invitation has.
    Id(Option<InvitationId>),
}

impl std::fmt::Debug for Reference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret.
        formatter.write_str("Reference(…)")
    }
}

impl Reference {
    /// The name by which the database finds it when the session is opened; `None` for an id that no
    /// invitation has.
    #[must_use]
    pub fn key(&self) -> Option<InvitationKey> {
        match self {
            Self::Token(token) => Some(InvitationKey::TokenHash(Token::shown(token).hash())),
            Self::Id(id) => id.map(InvitationKey::Id),
        }
    }

    /// Finds the invitation, if it is open and has not expired.
    pub(super) async fn find(&self, session: &Session) -> Result<Option<Received>> {
        match self {
            Self::Token(token) => user::find_invitation(session, Token::shown(token).hash()).await,
            Self::Id(id) => {
                let own = user::invitations(session).await?;
                Ok(own.into_iter().find(|received| Some(received.id) == *id))
            }
        }
    }
}
