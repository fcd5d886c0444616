//! What members contribute to the API.

use async_graphql::SchemaBuilder;
use entity::organization_member;

use super::graphql::{
    Member, MemberConnection, MemberMutation, MemberSubscription, MembersOfOrganization,
};
use crate::{
    action::{Action, actions},
    area::{Area, Limit},
    graphql::{NoFields, NodeType},
    permission::{Permission, permissions},
    seats,
};

permissions! {
    /// Leave the organization.
    OrganizationLeave = "ORGANIZATION_LEAVE" from Viewer;
    /// Change the role of viewers and members.
    MemberUpdateRole = "MEMBER_UPDATE_ROLE" from Admin;
    /// Remove viewers and members.
    MemberRemove = "MEMBER_REMOVE" from Admin;
    /// Act on admins and owners, and grant any role.
    MemberManageAdmins = "MEMBER_MANAGE_ADMINS" from Owner;
    /// Transfer ownership to another member.
    OrganizationTransfer = "ORGANIZATION_TRANSFER" from Owner;
}

actions! {
    /// A member's role was changed.
    MemberRoleChanged = "member.role_changed" with "`user_id`, `name`, `old_role`, `role`";
    /// A member was removed.
    MemberRemoved = "member.removed" with "`user_id`, `name`, `role`";
    /// A member left.
    MemberLeft = "member.left" with "`user_id`, `name`, `role`";
}

/// The area.
#[derive(Debug)]
pub struct MemberArea;

impl Area for MemberArea {
    type Query = NoFields;
    type Mutation = MemberMutation;
    type Subscription = MemberSubscription;
    type OrganizationFields = MembersOfOrganization;

    const PERMISSIONS: &'static [Permission] = PERMISSIONS;
    const ACTIONS: &'static [Action] = ACTIONS;

    fn limits() -> Vec<Limit> {
        vec![Limit { feature: seats::TEAM_MEMBERS, count: || &seats::IN_USE }]
    }

    fn nodes() -> Vec<NodeType> {
        vec![NodeType::of::<Member, organization_member::Model>(
            Permission::OrganizationRead,
            "organization_members",
            || "organization_id = $2",
        )]
    }

    fn describe<Q, M, S>(schema: SchemaBuilder<Q, M, S>) -> SchemaBuilder<Q, M, S> {
        schema.override_output_type_description::<MemberConnection>("A page of members.")
    }
}
