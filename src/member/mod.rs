//! Members: the users in the current organization, each with a role. An organization always has an
//! owner.

mod area;
mod graphql;
mod loader;
mod ops;

pub use area::MemberArea;
pub use graphql::Member;
pub use loader::MemberById;
pub use ops::{add_owner, count, has_email, join, may_invite, role_name};
