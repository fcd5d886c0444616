//! What invitations contribute to the API.

use std::sync::LazyLock;

use async_graphql::{MergedObject, SchemaBuilder};
use entity::invitation;

use super::{
    IS_OPEN,
    graphql::{Invitation, InvitationConnection, InvitationMutation, InvitationsOfOrganization},
    received_graphql::{InvitationQuery, ReceivedInvitationMutation},
};
use crate::{
    action::{Action, actions},
    area::Area,
    graphql::{NoFields, NodeType},
    permission::{Permission, permissions},
};

permissions! {
    /// Invite viewers and members, list and revoke invitations.
    MemberInvite = "MEMBER_INVITE" from Admin;
}

actions! {
    /// A user was invited.
    InvitationCreated = "invitation.created" with "`email`, `role`";
    /// An invitation got a new token and a new expiry.
    InvitationResent = "invitation.resent" with "`email`, `role`";
    /// An invitation was revoked.
    InvitationRevoked = "invitation.revoked" with "`email`, `role`";
    /// The invited user became a member.
    InvitationAccepted = "invitation.accepted" with "`email`, `role`";
    /// The invited user declined.
    InvitationDeclined = "invitation.declined" with "`email`, `role`";
}

/// The mutations of those who invite, and of those who are invited.
#[derive(Debug, Default, MergedObject)]
pub struct InvitationMutations(InvitationMutation, ReceivedInvitationMutation);

/// The condition on invitations that clients may fetch.
static OPEN_HERE: LazyLock<String> =
    LazyLock::new(|| format!("organization_id = $2 AND {}", *IS_OPEN));

/// The area.
#[derive(Debug)]
pub struct InvitationArea;

impl Area for InvitationArea {
    type Query = InvitationQuery;
    type Mutation = InvitationMutations;
    type Subscription = NoFields;
    type OrganizationFields = InvitationsOfOrganization;

    const PERMISSIONS: &'static [Permission] = PERMISSIONS;
    const ACTIONS: &'static [Action] = ACTIONS;

    fn nodes() -> Vec<NodeType> {
        vec![NodeType::of::<Invitation, invitation::Model>(
            Permission::MemberInvite,
            "invitations",
            || &OPEN_HERE,
        )]
    }

    fn describe<Q, M, S>(schema: SchemaBuilder<Q, M, S>) -> SchemaBuilder<Q, M, S> {
        schema.override_output_type_description::<InvitationConnection>("A page of invitations.")
    }
}
