//! What an organization may do while the operator has suspended it.

use async_graphql::Enum;

use super::Access;
use crate::{
    auth::Permission,
    error::{Error, Result},
};

/// How far an organization is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "OrganizationSuspension")]
pub enum Suspension {
    /// Owners read billing and pay; every other request is refused.
    Full,
    /// Members read; owners pay; every other change is refused.
    ReadOnly,
}

impl Suspension {
    /// As `app.placements` names it.
    ///
    /// # Errors
    ///
    /// When this version does not know the name.
    pub(super) fn from_name(name: &str) -> Result<Self> {
        match name {
            "full" => Ok(Self::Full),
            "read-only" => Ok(Self::ReadOnly),
            other => Err(Error::internal(format!("the suspension of an organization is {other}"))),
        }
    }

    /// Whether a permission that the role includes still holds.
    pub(super) fn leaves(self, permission: Permission, access: Access) -> bool {
        use Permission::{AuditLogRead, BillingManage, BillingRead, OrganizationRead};
        match (self, permission) {
            (_, BillingRead | BillingManage)
            | (Self::ReadOnly, OrganizationRead | AuditLogRead) => true,
            (Self::ReadOnly, _) => access == Access::Read,
            (Self::Full, _) => false,
        }
    }
}
