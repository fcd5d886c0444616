//! Repeating a mutation without doing it twice: a client names it with a key, its answer is kept in the same transaction, and whoever
//! repeats it gets that answer. Keys belong to a person in an organization, and count for a day.

mod key;
mod ops;
mod sealed;

pub use key::IdempotencyKey;
pub use ops::{Claim, claim, keep};
