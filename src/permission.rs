//! The authorization policy: one exhaustive `match` from each permission to the lowest role that
//! has it.

use async_graphql::Enum;
use entity::OrgRole;

use crate::enum_name::enum_name;

/// An action in an organization that a role may or may not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
pub enum Permission {
    /// Read the organization, its plan, members, projects, limits and usage. Every member.
    OrganizationRead,
    /// Leave the organization. Every member.
    OrganizationLeave,
    /// Create projects. Member and up.
    ProjectCreate,
    /// Update projects. Member and up.
    ProjectUpdate,
    /// Delete projects. Admin and up.
    ProjectDelete,
    /// Invite viewers and members, list and revoke invitations. Admin and up.
    MemberInvite,
    /// Change the role of viewers and members. Admin and up.
    MemberUpdateRole,
    /// Remove viewers and members. Admin and up.
    MemberRemove,
    /// Rename the organization. Admin and up.
    OrganizationUpdate,
    /// Read the audit log. Admin and up.
    AuditLogRead,
    /// Read the billing state. Admin and up.
    BillingRead,
    /// Count usage of meters with `consumeUsage` and `recordUsage`. Admin and up.
    UsageRecord,
    /// Act on admins and owners, and grant any role. Owner.
    MemberManageAdmins,
    /// Change the plan, trial and subscription; open checkout and portal. Owner.
    BillingManage,
    /// Change the organization's slug. Owner.
    OrganizationUpdateSlug,
    /// Transfer ownership to another member. Owner.
    OrganizationTransfer,
    /// Delete the organization. Owner.
    OrganizationDelete,
}

impl Permission {
    /// All permissions, in the order of the schema.
    pub const ALL: [Self; 17] = [
        Self::OrganizationRead,
        Self::OrganizationLeave,
        Self::ProjectCreate,
        Self::ProjectUpdate,
        Self::ProjectDelete,
        Self::MemberInvite,
        Self::MemberUpdateRole,
        Self::MemberRemove,
        Self::OrganizationUpdate,
        Self::AuditLogRead,
        Self::BillingRead,
        Self::UsageRecord,
        Self::MemberManageAdmins,
        Self::BillingManage,
        Self::OrganizationUpdateSlug,
        Self::OrganizationTransfer,
        Self::OrganizationDelete,
    ];

    /// The permission needed to act on a member with this role. `permission` suffices for viewers
    /// and members.
    #[must_use]
    pub fn to_act_on(role: OrgRole, permission: Self) -> Self {
        match role {
            OrgRole::Viewer | OrgRole::Member => permission,
            OrgRole::Admin | OrgRole::Owner => Self::MemberManageAdmins,
        }
    }

    /// Whether a member with the first role may invite to the second one.
    #[must_use]
    pub fn allow_inviting(inviter: OrgRole, role: OrgRole) -> bool {
        [Self::MemberInvite, Self::to_act_on(role, Self::MemberInvite)]
            .iter()
            .all(|permission| permission.granted_to(inviter))
    }

    /// Whether a role includes this permission. Roles are ordered, so the lowest one decides.
    #[must_use]
    pub fn granted_to(self, role: OrgRole) -> bool {
        let least = match self {
            Self::OrganizationRead | Self::OrganizationLeave => OrgRole::Viewer,
            Self::ProjectCreate | Self::ProjectUpdate => OrgRole::Member,
            Self::ProjectDelete
            | Self::MemberInvite
            | Self::MemberUpdateRole
            | Self::MemberRemove
            | Self::OrganizationUpdate
            | Self::AuditLogRead
            | Self::BillingRead
            | Self::UsageRecord => OrgRole::Admin,
            Self::MemberManageAdmins
            | Self::BillingManage
            | Self::OrganizationUpdateSlug
            | Self::OrganizationTransfer
            | Self::OrganizationDelete => OrgRole::Owner,
        };
        rank(role) >= rank(least)
    }

    /// Whether a role includes every permission of `another`.
    #[must_use]
    pub fn all_granted_to(role: OrgRole, another: OrgRole) -> bool {
        let mut all = Self::ALL.iter();
        all.all(|permission| permission.granted_to(role) || !permission.granted_to(another))
    }

    /// The name that clients see, for example `PROJECT_CREATE`.
    #[must_use]
    pub fn name(self) -> &'static str {
        enum_name(self)
    }
}

fn rank(role: OrgRole) -> u8 {
    match role {
        OrgRole::Viewer => 0,
        OrgRole::Member => 1,
        OrgRole::Admin => 2,
        OrgRole::Owner => 3,
    }
}
