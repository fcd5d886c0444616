//! The test fixtures: a database and a server for each test, and clients that send requests.

pub mod app;
pub mod billing_app;
pub mod child_process;
pub mod client;
pub mod cluster;
pub mod database;
pub mod dedicated;
pub mod forwarder;
pub mod imports;
pub mod localstripe;
pub mod node;
pub mod placement;
pub mod pooler;
pub mod process;
pub mod resources;
pub mod server_process;
pub mod sessions;
pub mod stripe;
pub mod websocket;

/// Longer than any step takes on a busy machine: only a hung step exceeds it.
pub const HANG: std::time::Duration = std::time::Duration::from_mins(1);

pub use app::{App, AppSettings};
pub use client::{Client, Reply};
