//! What a subscription is about, and which changes concern it.

use crate::auth::Permission;

/// What a subscription is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Projects,
    Members,
    Audit,
    Entitlements,
}

impl Topic {
    /// The topic of a root field.
    pub(super) fn of(field: &str) -> Option<Self> {
        match field {
            "projectChanged" => Some(Self::Projects),
            "memberChanged" => Some(Self::Members),
            "auditLogAdded" => Some(Self::Audit),
            "entitlementChanged" => Some(Self::Entitlements),
            _ => None,
        }
    }

    /// The permission that it takes to see anything of it.
    pub(super) fn permission(self) -> Permission {
        match self {
            Self::Audit => Permission::AuditLogRead,
            Self::Projects | Self::Members | Self::Entitlements => Permission::OrganizationRead,
        }
    }
}
