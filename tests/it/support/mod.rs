//! A database and a server for each test, and people who ask it things.

pub mod app;
pub mod client;
pub mod cluster;
pub mod database;
pub mod dedicated;
pub mod forwarder;
pub mod keeper;
pub mod localstripe;
pub mod node;
pub mod placement;
pub mod pooler;
pub mod process;
pub mod served;
pub mod sessions;
pub mod shop;
pub mod stripe;
pub mod websocket;

/// Longer than anything takes on a busy machine: only what hangs is still under way after it.
pub const HANG: std::time::Duration = std::time::Duration::from_mins(1);

pub use app::{App, AppSettings};
pub use client::{Client, Reply};
