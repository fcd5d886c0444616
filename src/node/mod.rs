//! Global object identification (Relay): fetches any object of the current organization by its id.
//!
//! Each area names its types in `Area::nodes`.

mod graphql;
mod loader;
mod ops;

pub use graphql::{NodeQuery, find_nodes};
