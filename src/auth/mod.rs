//! Who is calling, and what a role may do. Knows tokens and the policy, not the database.

mod jwt;
mod permission;
mod role;

pub use jwt::{Caller, Claims, TokenError, Verifier, sign};
pub use permission::Permission;
pub use role::Role;
