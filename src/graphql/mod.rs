//! The GraphQL toolkit for areas: context, dataloaders, connections, and the checks on a document.

mod big_int;
mod children;
mod collect_fields;
mod connection;
mod context;
mod date;
pub mod document;
mod document_size;
mod edit;
mod error;
mod executable;
mod extended;
mod integers;
mod json;
mod limits;
mod loaded;
mod loader;
mod node;
mod operation_cache;
mod prescan;
mod root_fields;
mod syntax_error;
mod validation;

pub use big_int::BigInt;
pub use connection::{Connection, STATEMENT, connection, list_cost, page_cost};
pub use context::{ContextExt, Event, One, one, parse_id, require_id};
pub use date::Date;
pub use edit::{nullable, required};
pub use error::{RETRY_AFTER, present, refusal};
pub use extended::{Extended, NoFields};
pub use json::Json;
pub use limits::{Limits, Refusal};
pub use loaded::Loaded;
pub use loader::{Loaders, Queue, Reader, request_loaders};
pub use node::{Node, NodeType};
pub use operation_cache::OperationCache;
pub use root_fields::{
    MutationTarget, MutationTraits, SubscriptionTraits, allowed_over_call_limit, alone, on_change,
    rate_limited, requires_permission,
};
pub use validation::Validator;

pub use crate::enum_name::enum_name;

/// Converts a count to GraphQL's 32-bit `Int`, saturating at its bounds.
#[must_use]
pub fn to_int(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(if count < 0 { i32::MIN } else { i32::MAX })
}
