//! The failure of a command.

/// Why a command failed, as one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    pub(super) fn new(message: impl std::fmt::Display) -> Self {
        Self(message.to_string())
    }
}

impl From<crate::error::Error> for Failure {
    fn from(error: crate::error::Error) -> Self {
        use crate::error::Error;
        match &error {
            Error::Contention(cause)
            | Error::Unavailable(cause)
            | Error::ReadOnly(cause)
            | Error::Internal(cause)
                if let Some(cause) = cause.downcast_ref::<pg::Error>() =>
            {
                Self(cause.explained())
            }
            _ => Self(error.cause()),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error)
    }
}

impl From<pg::Error> for Failure {
    fn from(error: pg::Error) -> Self {
        Self(error.explained())
    }
}
