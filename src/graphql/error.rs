//! Presents errors to clients: message, code and details go into the response, the cause goes into
//! the log.

use std::sync::Arc;

use async_graphql::{ErrorExtensionValues, PathSegment, Pos, Response, ServerError, Value};
use uuid::Uuid;

use super::Refusal;
use crate::error::{Error, ErrorCode};

/// How the executor begins the message about a text that is no time. Its reasons are those of the
/// parser, such as "premature end of input" for a day.
const NOT_A_TIME: &str = "Failed to parse \"DateTime\":";

/// Sets the code of every error in a response, and hides what clients must not see.
pub fn present(response: &mut Response, request_id: Uuid) {
    for error in &mut response.errors {
        let ours = error.source.as_ref().and_then(|source| source.downcast_ref::<Error>()).cloned();
        match ours {
            Some(ours) => {
                error.message = ours.to_string();
                error.extensions = Some(extensions(&ours, request_id));
            }
            // Without a source, the executor could not parse an argument. With one, a library's
            // error was not converted.
            None if error.source.is_none() => {
                if error.message.starts_with(NOT_A_TIME) {
                    error.message =
                        format!("{NOT_A_TIME} must be a time such as 2026-01-31T12:00:00Z");
                }
                let mut values = ErrorExtensionValues::default();
                values.set("code", ErrorCode::BadUserInput.name());
                values.set("field", place(&error.path));
                error.extensions = Some(values);
            }
            None => {
                let ours = Error::internal(error.message.clone());
                error.message = ours.to_string();
                error.extensions = Some(extensions(&ours, request_id));
            }
        }
    }
}

/// The path of the argument that could not be parsed, for example `organization.auditLogs`.
fn place(path: &[PathSegment]) -> String {
    let segments = path.iter().map(|segment| match segment {
        PathSegment::Field(name) => name.clone(),
        PathSegment::Index(index) => index.to_string(),
    });
    segments.collect::<Vec<_>>().join(".")
}

/// The error of a request that was not executed.
#[must_use]
pub fn refusal(error: &Error, request_id: Uuid) -> ServerError {
    let mut refused = ServerError::new(error.to_string(), None);
    refused.extensions = Some(extensions(error, request_id));
    refused.source = Some(Arc::new(error.clone()));
    refused
}

impl From<Refusal> for ServerError {
    fn from(refusal: Refusal) -> Self {
        let position = refusal.location.map(|(line, column)| Pos { line, column });
        let mut error = Self::new(refusal.message, position);
        let mut values = ErrorExtensionValues::default();
        values.set("code", refusal.code.name());
        error.extensions = Some(values);
        error
    }
}

/// Seconds until a retry makes sense.
pub const RETRY_AFTER: u32 = 1;

fn extensions(error: &Error, request_id: Uuid) -> ErrorExtensionValues {
    let mut values = ErrorExtensionValues::default();
    values.set("code", error.code().name());
    match error {
        Error::BadUserInput { field, .. } => values.set("field", *field),
        Error::Forbidden(permission) => values.set("permission", permission.name()),
        Error::PlanLimitExceeded { feature, limit } => {
            values.set("feature", feature.as_str());
            values.set("limit", *limit);
        }
        Error::CallsExhausted(rate) => {
            values.set("feature", "api_calls_per_month");
            values.set("limit", rate.limit);
            values.set("retryAfter", rate.reset);
        }
        Error::CommitOutcomeUnknown(cause) | Error::OutcomeUnknown(cause) => {
            values.set("outcome", "UNKNOWN");
            values.set("requestId", Value::from(request_id.to_string()));
            log(error, cause.as_ref(), request_id);
        }
        Error::Timeout => {
            values.set("retryAfter", RETRY_AFTER);
            values.set("requestId", Value::from(request_id.to_string()));
            tracing::warn!(code = error.code().name(), %request_id, "request failed");
        }
        Error::RateLimited { retry_after, .. }
        | Error::IdempotencyConflict { retry_after: Some(retry_after), .. } => {
            values.set("retryAfter", *retry_after);
        }
        Error::Unavailable(cause) | Error::Contention(cause) | Error::ReadOnly(cause) => {
            values.set("retryAfter", RETRY_AFTER);
            values.set("requestId", Value::from(request_id.to_string()));
            log(error, cause.as_ref(), request_id);
        }
        Error::Internal(cause) => {
            values.set("requestId", Value::from(request_id.to_string()));
            log(error, cause.as_ref(), request_id);
        }
        _ => {}
    }
    values
}

fn log(error: &Error, cause: &(dyn std::error::Error + Send + Sync), request_id: Uuid) {
    tracing::error!(code = error.code().name(), %request_id, cause = %cause, "request failed");
}
