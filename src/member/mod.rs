//! Members: the users in the current organization, each with a role. An organization always has an
//! owner.

mod graphql;
mod loader;
mod ops;

pub use graphql::{Member, MemberConnection, MemberMutation, MemberSubscription, MemberTotal};
pub use loader::MemberById;
pub use ops::{
    add_owner, count, has_email, is_address_of_viewer, join, list, may_invite, role_name,
};
