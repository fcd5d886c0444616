//! The database: roles, then forward-only steps, then the functions.
//!
//! A step creates a table together with its row-level security, policies, grants and indexes, so
//! that no table is ever unprotected. A table of organizations is one declaration (`table.rs`).
//! Steps are plain SQL and never edited once released; functions are files that are applied again
//! whenever they change.

pub mod dedicated;
mod error;
pub mod functions;
mod names;
pub mod placement;
pub mod rls;
pub mod roles;
mod run;
mod schemas;
mod server;
mod step;
mod steps;
mod table;
mod tenant_table;

mod app;
mod m0001_baseline;

pub use error::Error;
pub use names::{APP_ROLE, OWNER_ROLE, SCHEMAS, SESSION, SYSTEM_ROLE};
pub use roles::Passwords;
pub use run::{CONCURRENCY, Report, Run, migrate, migrate_with};
pub use schemas::Schemas;
pub use step::{Change, Step};
pub use steps::{INCOMPATIBLE, STEPS, Status, status};
pub use table::{OnDelete, Reference, Table};
pub use tenant_table::TenantTable;
