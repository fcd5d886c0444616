//! The error that made a transaction fail, in a form that can be cloned and reported later.

use std::sync::Arc;

use crate::error::{DbErrorKind, Error, Exceeded};

/// A failed statement or an exceeded budget.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct TransactionError {
    pub(super) kind: DbErrorKind,
    message: String,
}

impl TransactionError {
    pub(super) fn of(error: &sqlx::Error) -> Self {
        Self { kind: DbErrorKind::of(error), message: error.to_string() }
    }
}

impl From<Exceeded> for TransactionError {
    fn from(exceeded: Exceeded) -> Self {
        Self { kind: DbErrorKind::Exceeded(exceeded), message: exceeded.to_string() }
    }
}

impl From<&TransactionError> for Error {
    fn from(failure: &TransactionError) -> Self {
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
