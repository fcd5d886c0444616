//! What users contribute to the API.

use entity::user;

use super::graphql::{User, UserMutation, UserQuery};
use crate::{
    action::{Action, actions},
    area::Area,
    graphql::{NoFields, NodeType},
    permission::Permission,
};

actions! {
    /// A new identity was linked to a member by a verified address.
    UserIdentityLinked = "user.identity_linked" with "`issuer`, `email`";
    /// A member unlinked an identity.
    UserIdentityUnlinked = "user.identity_unlinked" with "`issuer`, `email`";
    /// A member chose a name, or let it follow the identity provider again.
    UserRenamed = "user.renamed" with "`user_id`, and the new `name`";
    /// The operator suspended a member in all organizations.
    UserSuspended = "user.suspended" with "`user_id`, `name`";
    /// The operator ended the suspension of a member.
    UserResumed = "user.resumed" with "`user_id`, `name`";
}

/// The area.
#[derive(Debug)]
pub struct UserArea;

impl Area for UserArea {
    type Query = UserQuery;
    type Mutation = UserMutation;
    type Subscription = NoFields;
    type OrganizationFields = NoFields;

    const ACTIONS: &'static [Action] = ACTIONS;

    fn nodes() -> Vec<NodeType> {
        vec![NodeType::of::<User, user::Model>(
            Permission::OrganizationRead,
            "users",
            // Row-level security alone decides which users are visible, but `$2` must be used.
            || "$2::uuid IS NOT NULL",
        )]
    }
}
