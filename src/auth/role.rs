//! The roles of members as clients see them.

use async_graphql::Enum;
use entity::OrgRole;

/// What a member is in an organization. Each role may do what the ones after it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "OrgRole")]
pub enum Role {
    /// Everything, ownership, money and the organization's end included. There is always one at
    /// least.
    Owner,
    /// Everything but what concerns admins, owners and money.
    Admin,
    /// Creates and updates projects.
    Member,
    /// Reads.
    Viewer,
}
