//! Typed ids, so that the id of a project cannot be passed as that of an organization.

use sea_orm::{DbErr, DeriveValueType, TryFromU64};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, DeriveValueType,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Generates a new id. The application generates ids, not the database.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "a default id would suggest a meaning")]
            pub fn new() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, DbErr> {
                Err(DbErr::ConvertFromU64(stringify!($name)))
            }
        }
    )*};
}

ids! {
    /// `audit.audit_logs`
    AuditLogId,
    /// `auth.invitations`
    InvitationId,
    /// `auth.organization_members`
    MemberId,
    /// `app.organizations`
    OrganizationId,
    /// `app.outbox`
    OutboxId,
    /// `app.projects`
    ProjectId,
    /// `auth.users`
    UserId,
}
