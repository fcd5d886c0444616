//! Suspensions: which permissions remain while the operator has suspended an organization.

use async_graphql::Enum;

use super::Access;
use crate::{
    auth::Permission,
    error::{Error, Result},
};

/// How far the operator has suspended an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "OrganizationSuspension")]
pub enum Suspension {
    /// Owners can read billing and pay. Every other request is refused.
    Full,
    /// Members can read, and owners can pay. Every other change is refused.
    ReadOnly,
}

impl Suspension {
    /// Parses the name in `app.placements`.
    ///
    /// # Errors
    ///
    /// When the name is unknown to this version.
    pub(super) fn from_name(name: &str) -> Result<Self> {
        match name {
            "full" => Ok(Self::Full),
            "read-only" => Ok(Self::ReadOnly),
            other => {
                Err(Error::internal(format!("the organization has the unknown suspension {other}")))
            }
        }
    }

    /// Whether the suspension leaves a permission that the role includes.
    pub(super) fn leaves(self, permission: Permission, access: Access) -> bool {
        match (self, permission) {
            (_, Permission::BillingRead | Permission::BillingManage)
            | (Self::ReadOnly, Permission::OrganizationRead | Permission::AuditLogRead) => true,
            (Self::ReadOnly, _) => access == Access::Read,
            (Self::Full, _) => false,
        }
    }
}
