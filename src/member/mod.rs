//! Members: who has a seat in the current organization, and in which role.

mod graphql;
mod loader;
mod ops;

pub use graphql::{Member, MemberConnection, MemberTotal, Role};
pub use loader::MemberById;
pub use ops::{add_owner, list};
