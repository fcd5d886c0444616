//! Migrations of a PostgreSQL database, without knowledge of its tables.
//!
//! A [`Migration`] runs alone in its database. It creates the roles, applies the steps that the
//! database lacks, each in a transaction, and applies functions again whenever their text changes.
//! The schema `migration` records what was applied.

mod error;
mod functions;
mod roles;
mod run;
mod server;
mod transaction;

pub use error::Error;
pub use functions::OUTDATED;
pub use roles::Roles;
pub use run::{Database, Migration, SESSION};
pub use transaction::finish;
