//! The runtime on which commands wait for the database.

use super::Failure;

/// The runtime of a command.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
