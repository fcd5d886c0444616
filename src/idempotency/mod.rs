//! Idempotency keys: a client can repeat a mutation without executing it twice.
//!
//! The response is stored in the mutation's transaction. A repetition with the same key gets that
//! response, unless the caller's role is lower by then. A key belongs to one user in one
//! organization and is valid for a day.

mod key;
mod ops;
mod sealed_response;
mod stored_response;

pub use key::IdempotencyKey;
pub use ops::{Claim, claim, keep};
