//! Global object identification (Relay): any object of the current organization by its id alone.
//!
//! To make a type refetchable, add it to the interface here and a line to the statement in
//! `ops.rs`.

mod graphql;
mod loader;
mod ops;

pub use graphql::{Node, NodeQuery};
