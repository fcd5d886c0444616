//! The outbox: work outside the database, recorded in the transaction that decides it and done
//! after the commit.
//!
//! Delivery is at least once. A worker that stops between doing the work and marking it done leaves
//! the row for another attempt.

mod ops;

pub use ops::{
    Kind, Overdue, add, add_due, claim, due, finish, forget_processed, is_waiting, last,
    nth_newest, postpone,
};
