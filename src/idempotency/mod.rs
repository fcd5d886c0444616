//! Repeating a mutation without doing it twice: a client names it with a key, its answer is kept in
//! the same transaction, and a repetition gets that answer, unless the caller may do less than
//! then. Keys belong to a user in an organization, and count for a day.

mod key;
mod ops;
mod sealed_response;
mod stored_response;

pub use key::IdempotencyKey;
pub use ops::{Claim, claim, keep};
