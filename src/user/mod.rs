//! People: oneself with one's memberships, and those whom one meets in the current organization.

mod graphql;
mod identity;
mod loader;
mod ops;

pub use graphql::{User, UserMutation, UserQuery};
pub use loader::UserById;
pub use ops::{Membership, memberships};
