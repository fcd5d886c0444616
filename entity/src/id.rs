//! Typed ids, so that the id of a user cannot be passed as that of an organization.

/// Defines types of ids, named after the table.
macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize,
            serde::Deserialize, sea_orm::DeriveValueType,
        )]
        #[serde(transparent)]
        pub struct $name(pub uuid::Uuid);

        impl $name {
            /// Generates a new id. The application generates ids, not the database.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "a default id would suggest a meaning")]
            pub fn new() -> Self {
                Self(uuid::Uuid::new_v4())
            }
        }

        impl From<uuid::Uuid> for $name {
            fn from(id: uuid::Uuid) -> Self {
                Self(id)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl sea_orm::TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, sea_orm::DbErr> {
                Err(sea_orm::DbErr::ConvertFromU64(stringify!($name)))
            }
        }
    )*};
}
pub(crate) use ids;

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
    /// `auth.users`
    UserId,
}
