//! Who is calling, and what a role may do. Knows tokens and the policy, not the database.

mod cache;
mod jwks;
mod jwt;
mod permission;
mod role;
mod times;

pub use jsonwebtoken::Algorithm;
pub use jwks::{JwksOptions, KeysUnavailable};
pub use jwt::{Caller, Claims, TokenError, Verifier, VerifyError, sign};
pub use permission::Permission;
pub use role::Role;
pub use times::EXPIRED;
