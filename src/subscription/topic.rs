//! The topics of subscriptions: which changes concern a subscription, and which permission it
//! takes.

use crate::auth::Permission;

/// The subject of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Projects,
    Members,
    Audit,
    Entitlements,
}

impl Topic {
    /// Finds the topic of a root field.
    pub(super) fn of(field: &str) -> Option<Self> {
        match field {
            "projectChanged" => Some(Self::Projects),
            "memberChanged" => Some(Self::Members),
            "auditLogAdded" => Some(Self::Audit),
            "entitlementChanged" => Some(Self::Entitlements),
            _ => None,
        }
    }

    /// The permission to read the topic.
    pub(super) fn permission(self) -> Permission {
        match self {
            Self::Audit => Permission::AuditLogRead,
            Self::Projects | Self::Members | Self::Entitlements => Permission::OrganizationRead,
        }
    }
}
