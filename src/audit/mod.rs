//! The audit log: entries are written in the transaction of the change they describe, and admins
//! read them.
//!
//! The module depends on no other area. Each area passes in what it did.

mod area;
mod graphql;
mod ops;

pub use area::AuditArea;
pub use graphql::AuditLogConnection;
pub use ops::{
    Filter, OfResource, add_changes, allow_slow_reader, ensure_partitions, page_forward, record,
};

pub use crate::action::Action;
