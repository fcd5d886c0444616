//! Global object identification (Relay): fetches any object of the current organization by its id.
//!
//! To make a type refetchable, add it to the interface in `graphql.rs` and to the statement in
//! `ops.rs`.

mod graphql;
mod loader;
mod ops;

pub use graphql::{Node, NodeQuery, find_nodes, require_at_most_max_nodes};
