//! Authentication and permissions: who the caller is, and what a role may do. This module knows
//! tokens and the policy, not the database.

mod claims;
mod error;
mod jwk;
mod jwks;
mod role;
mod times;
mod token;
mod token_cache;
mod verifier;

pub use claims::{Caller, Claims, EmailVerified};
pub use error::{EXPIRED, KeysUnavailable, TokenError, VerifyError};
pub use jsonwebtoken::{Algorithm, AlgorithmFamily};
pub use jwks::JwksOptions;
pub use role::Role;
pub use token::algorithm;
pub use verifier::{TrustedIssuer, Verifier, sign};

pub use crate::permission::Permission;
