//! Authentication and permissions: who the caller is, and what a role may do. This module knows
//! tokens and the policy, not the database.

mod claims;
mod jwk;
mod jwks;
mod role;
mod times;
mod token;
mod token_cache;
mod verifier;

pub use claims::{Caller, Claims, EmailVerified};
pub use jsonwebtoken::Algorithm;
pub use jwks::{JwksOptions, KeysUnavailable};
pub use role::Role;
pub use times::EXPIRED;
pub use verifier::{TokenError, TrustedIssuer, Verifier, VerifyError, sign};

pub use crate::permission::Permission;
