//! The audit log: entries are written in the transaction of the change they describe, and admins
//! read them.
//!
//! The module depends on no other area. Each area passes in what it did.

mod action;
mod graphql;
mod ops;

pub use action::Action;
pub use graphql::{AuditLog, AuditLogConnection, AuditLogFilter, AuditQuery, AuditSubscription};
pub use ops::{Filter, allow_slow_reader, ensure_partitions, list, page_forward, record};
