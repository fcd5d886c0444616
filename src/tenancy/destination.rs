//! What a session is opened for: the organization that the request names, and the operation.

use std::net::IpAddr;

use entity::InvitationId;

use super::Access;

/// The organization that a request addresses, and where the request comes from.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The slug in the path.
    pub slug: Option<String>,
    /// The client's address, for the audit log.
    pub client_ip: Option<IpAddr>,
}

/// The operation for which a session is opened. It decides the session's access and organization.
#[derive(Clone, Debug)]
pub enum OpenFor {
    /// A query in the organization that the request names.
    Query,
    /// A mutation in the organization that the request names.
    Mutation {
        /// Whether it has several fields that make changes.
        makes_several_changes: bool,
    },
    /// A mutation that creates an organization: the session is in the new one, as its owner.
    NewOrganization,
    /// A mutation that accepts or declines an invitation: the session is in its organization with
    /// the rights of a viewer, or where the request leads if there is no such invitation.
    Invitation(InvitationKey),
    /// A mutation of the user, in the control database.
    User,
}

impl OpenFor {
    /// Whether the session may write.
    #[must_use]
    pub fn access(&self) -> Access {
        if matches!(self, Self::Query) { Access::Read } else { Access::Write }
    }

    pub(super) fn search(&self) -> Search {
        match self {
            Self::Query | Self::Mutation { .. } => Search::Everywhere,
            Self::NewOrganization | Self::Invitation(_) | Self::User => Search::ControlDatabase,
        }
    }
}

/// How the invited user names an invitation.
#[derive(Clone, Debug)]
pub enum InvitationKey {
    /// The hash of its token.
    TokenHash(Vec<u8>),
    /// Its id, if it is for an address of the user.
    Id(InvitationId),
}

/// Where an opening looks for the organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// Wherever the organization lives.
    Everywhere,
    /// In the control database, because the operation leads to another organization or to none.
    ControlDatabase,
}
