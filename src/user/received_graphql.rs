//! The invitations of the signed-in user in the GraphQL API.

use async_graphql::{ID, Object};
use chrono::{DateTime, Utc};

use super::received_invitation::Received;
use crate::auth::Role;

#[derive(Debug)]
pub struct ReceivedInvitation(pub Received);

/// An open invitation to a verified address of the signed-in user.
#[Object]
impl ReceivedInvitation {
    /// The ID, for `acceptInvitation` and `declineInvitation`.
    async fn id(&self) -> ID {
        self.0.id.0.into()
    }

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

    /// The invited e-mail address.
    async fn email(&self) -> &str {
        &self.0.email
    }

    /// When the invitation expires.
    async fn expires_at(&self) -> DateTime<Utc> {
        self.0.expires_at
    }
}
