//! The failure of a command.

use std::{error::Error, fmt};

/// Why a command failed, in one line; for a server that cannot start, one line per problem. An
/// error of the operating system names no file, so name it before `?`.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    pub(super) fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str(&self.0)
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        use crate::error::Error as ApiError;
        let error: &(dyn Error + 'static) = &error;
        let of_api = error.downcast_ref();
        let cause = match of_api {
            Some(
                ApiError::Contention(cause)
                | ApiError::Unavailable(cause)
                | ApiError::ReadOnly(cause)
                | ApiError::Internal(cause),
            ) => cause.downcast_ref(),
            _ => error.downcast_ref(),
        };
        match (cause, of_api) {
            (Some(cause), _) => Self(pg::Error::explained(cause)),
            (None, Some(error)) => Self(error.cause()),
            (None, None) => Self::new(error),
        }
    }
}
