//! The error for a request that is not valid GraphQL over HTTP.

use axum::http::StatusCode;

/// A request that is not valid GraphQL over HTTP.
#[derive(Debug)]
pub(super) struct Unsupported(pub(super) StatusCode, pub(super) String);

impl Unsupported {
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }
}
