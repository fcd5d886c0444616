//! The whole policy: one exhaustive `match` from permission to the least role that has it.

use async_graphql::Enum;
use entity::OrgRole;

use crate::graphql::enum_name;

/// What a member of an organization may do, as far as the role decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
pub enum Permission {
    /// See the organization, its plan, members, projects, limits and usage. Every member.
    OrganizationRead,
    /// Give up one's own membership. Every member.
    OrganizationLeave,
    /// Create projects. Member and up.
    ProjectCreate,
    /// Change projects. Member and up.
    ProjectUpdate,
    /// Delete projects. Admin and up.
    ProjectDelete,
    /// Invite viewers and members, see and revoke invitations. Admin and up.
    MemberInvite,
    /// Change the role of viewers and members. Admin and up.
    MemberUpdateRole,
    /// Remove viewers and members. Admin and up.
    MemberRemove,
    /// Rename the organization. Admin and up.
    OrganizationUpdate,
    /// Read the audit log. Admin and up.
    AuditLogRead,
    /// Read the state of billing. Admin and up.
    BillingRead,
    /// Act on admins and owners, and grant any role. Owner.
    MemberManageAdmins,
    /// Change plan, trial and subscription, open checkout and portal. Owner.
    BillingManage,
    /// Change the organization's slug. Owner.
    OrganizationUpdateSlug,
    /// Make another member the owner. Owner.
    OrganizationTransfer,
    /// Delete the organization. Owner.
    OrganizationDelete,
}

impl Permission {
    /// All of them, in the order of the schema.
    pub const ALL: [Self; 16] = [
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
        Self::MemberManageAdmins,
        Self::BillingManage,
        Self::OrganizationUpdateSlug,
        Self::OrganizationTransfer,
        Self::OrganizationDelete,
    ];

    /// What acting on somebody of this role takes, where `permission` is enough for viewers and
    /// members.
    #[must_use]
    pub fn to_act_on(role: OrgRole, permission: Self) -> Self {
        match role {
            OrgRole::Viewer | OrgRole::Member => permission,
            OrgRole::Admin | OrgRole::Owner => Self::MemberManageAdmins,
        }
    }

    /// Whether a role includes this permission; the roles are ordered, so the least one decides.
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
            | Self::BillingRead => OrgRole::Admin,
            Self::MemberManageAdmins
            | Self::BillingManage
            | Self::OrganizationUpdateSlug
            | Self::OrganizationTransfer
            | Self::OrganizationDelete => OrgRole::Owner,
        };
        rank(role) >= rank(least)
    }

    /// Whether a role includes all that `another` one does.
    #[must_use]
    pub fn all_granted_to(role: OrgRole, another: OrgRole) -> bool {
        let mut all = Self::ALL.iter();
        all.all(|permission| permission.granted_to(role) || !permission.granted_to(another))
    }

    /// The name as clients see it, for example `PROJECT_CREATE`.
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
