//! What is kept of the error that a transaction has failed with.

use std::sync::Arc;

use crate::error::{Error, Exceeded, Trouble};

/// A failed statement, or a budget that was passed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Failure {
    pub(super) trouble: Trouble,
    message: String,
}

impl Failure {
    pub(super) fn of(error: &sqlx::Error) -> Self {
        Self { trouble: Trouble::of(error), message: error.to_string() }
    }
}

impl From<Exceeded> for Failure {
    fn from(exceeded: Exceeded) -> Self {
        Self { trouble: Trouble::Exceeded(exceeded), message: exceeded.to_string() }
    }
}

impl From<&Failure> for Error {
    fn from(failure: &Failure) -> Self {
        match failure.trouble {
            Trouble::Connection => Self::Unavailable(Arc::new(failure.clone())),
            Trouble::Conflict => Self::Contention(Arc::new(failure.clone())),
            Trouble::ReadOnly => Self::ReadOnly(Arc::new(failure.clone())),
            Trouble::Timeout => Self::Timeout,
            Trouble::Exceeded(exceeded) => Self::TooComplex(exceeded),
            Trouble::Statement => Self::Internal(Arc::new(failure.clone())),
        }
    }
}
