//! Users: the caller with their identities and memberships, and the users of the current
//! organization.

mod graphql;
mod identity;
mod loader;
mod ops;

pub use graphql::{User, UserMutation, UserQuery};
pub use loader::UserById;
pub use ops::{Membership, memberships};
