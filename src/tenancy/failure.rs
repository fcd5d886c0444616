//! What is kept of the error that a transaction has failed with.

use std::sync::Arc;

use crate::error::{DbErrorKind, Error, Exceeded};

/// A failed statement, or a budget that was passed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Failure {
    pub(super) kind: DbErrorKind,
    message: String,
}

impl Failure {
    pub(super) fn of(error: &sqlx::Error) -> Self {
        Self { kind: DbErrorKind::of(error), message: error.to_string() }
    }
}

impl From<Exceeded> for Failure {
    fn from(exceeded: Exceeded) -> Self {
        Self { kind: DbErrorKind::Exceeded(exceeded), message: exceeded.to_string() }
    }
}

impl From<&Failure> for Error {
    fn from(failure: &Failure) -> Self {
        match failure.kind {
            DbErrorKind::Connection => Self::Unavailable(Arc::new(failure.clone())),
            DbErrorKind::Conflict => Self::Contention(Arc::new(failure.clone())),
            DbErrorKind::ReadOnly => Self::ReadOnly(Arc::new(failure.clone())),
            DbErrorKind::Timeout => Self::Timeout,
            DbErrorKind::Exceeded(exceeded) => Self::TooComplex(exceeded),
            DbErrorKind::Statement => Self::Internal(Arc::new(failure.clone())),
        }
    }
}
