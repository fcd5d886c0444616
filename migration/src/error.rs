//! Why a database could not be migrated.

use crate::steps::Status;

/// Why a database could not be migrated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be used, or not with this login.
    #[error(transparent)]
    Prepare(#[from] pg_migrate::Error),
    /// A step failed and was rolled back.
    #[error("the step {name} failed: {}", .cause.explained())]
    Step {
        /// Its name.
        name: &'static str,
        /// PostgreSQL's error.
        cause: pg::Error,
    },
    /// Another version migrated the database.
    #[error("{}", .0.problem().unwrap_or_default())]
    Version(Status),
}

impl From<pg::Error> for Error {
    fn from(error: pg::Error) -> Self {
        Self::Prepare(error.into())
    }
}
