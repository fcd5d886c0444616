//! Authentication and permissions: who the caller is, and what a role may do. This module knows
//! tokens and the policy, not the database.

mod jwks;
mod jwt;
mod role;
mod times;
mod token_cache;

pub use jsonwebtoken::Algorithm;
pub use jwks::{JwksOptions, KeysUnavailable};
pub use jwt::{Caller, Claims, TokenError, Verifier, VerifyError, sign};
pub use role::Role;
pub use times::EXPIRED;

pub use crate::permission::Permission;
