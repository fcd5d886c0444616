//! The audit trail: written in the transaction that does what it tells, read by admins.
//!
//! Knows no other area; each hands over what happened.

mod action;
mod graphql;
mod ops;

pub use action::Action;
pub use graphql::{AuditLog, AuditLogConnection, AuditLogFilter, AuditSubscription};
pub use ops::{Filter, allow_slow_reader, ensure_partitions, list, page_forward, record};
