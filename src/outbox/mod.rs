//! The outbox: what must happen outside the database, written in the transaction that decides it,
//! done after its commit.
//!
//! Delivery is at least once: whoever dies between doing and saying so leaves the row to be done
//! again.

mod ops;

pub use ops::{Kind, Overdue, add, claim, due, finish, forget_processed, nth_newest, postpone};
