//! Connection pools and what runs on them without a session.

mod options;
mod query;
mod replica;

pub(super) use options::SYSTEM_CONNECTIONS;
pub use options::{DatabaseOptions, system_password};
pub(super) use query::{migration_status, query_once};
pub(super) use replica::Replica;
