//! The roles of members, as clients see them.

use async_graphql::Enum;
use entity::OrgRole;

/// The role of a member in an organization. Each role includes the permissions of the roles after
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "OrgRole")]
pub enum Role {
    /// Full access, including ownership, billing and deleting the organization. An organization
    /// always has at least one owner.
    Owner,
    /// Everything except managing admins and owners, billing, the slug, and deleting the
    /// organization.
    Admin,
    /// Creates and updates projects.
    Member,
    /// Reads the organization, its plan, members, projects and usage.
    Viewer,
}
