//! Builds HTTP responses from the results of requests: status, headers and body. The status of a
//! failure does not depend on the media type.

use std::time::Duration;

use async_graphql::{Response as GraphqlResponse, ServerError};
use async_graphql_axum::GraphQLResponse;
use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use uuid::Uuid;

use super::{json::serialize, negotiate::MediaType, unsupported::Unsupported};
use crate::{
    error::{Error, ErrorCode},
    graphql::{RETRY_AFTER, Refusal},
    rate_limit::RateLimit,
    request::Answer,
};

impl Unsupported {
    pub(super) fn answer(self, media: MediaType) -> Response {
        let status = self.0;
        let body = errors_only(&GraphqlResponse::from_errors(vec![self.into()]));
        let mut response = json(media, status, body);
        let header = match status {
            StatusCode::METHOD_NOT_ALLOWED => Some((header::ALLOW, "GET, POST, OPTIONS")),
            // The only content coding (RFC 9110, section 15.5.16).
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Some((header::ACCEPT_ENCODING, "identity")),
            _ => None,
        };
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl From<Unsupported> for ServerError {
    fn from(Unsupported(_, message): Unsupported) -> Self {
        Refusal { code: ErrorCode::UnsupportedRequest, message, location: None }.into()
    }
}

/// The body for a request that was not executed. It has no `data`.
pub(super) fn errors_only(response: &GraphqlResponse) -> String {
    #[derive(Serialize)]
    struct ErrorsOnly<'response> {
        errors: &'response [ServerError],
    }
    serialize(&ErrorsOnly { errors: &response.errors })
}

pub(super) fn json(media: MediaType, status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, media.content_type())], body).into_response()
}

/// The body for one operation.
pub(super) fn text_of(answer: &Answer) -> String {
    if answer.executed { serialize(&answer.response) } else { errors_only(&answer.response) }
}

/// The response to one operation.
pub(super) fn of_operation(media: MediaType, status: StatusCode, answer: Answer) -> Response {
    let mut response = if answer.executed {
        executed(media, status, answer.response)
    } else {
        // `GraphQLResponse` would have `data`, which the specification forbids here.
        json(media, status, errors_only(&answer.response))
    };
    decorate(&mut response, answer.failure.as_ref());
    set_rate_limit(&mut response, answer.rate_limit);
    set_replayed(&mut response, answer.replayed);
    response
}

/// The response to an operation that was executed, with the headers that its resolvers have added.
fn executed(media: MediaType, status: StatusCode, response: GraphqlResponse) -> Response {
    let mut response = GraphQLResponse::from(response).into_response();
    // It is always 200 and `application/graphql-response+json`.
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(media.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// The response to a request that was not executed.
pub(super) fn failed(media: MediaType, error: Error, request_id: Uuid) -> Response {
    let status = status(&error);
    let answer = Answer::failed(error, request_id);
    let mut response = json(media, status, errors_only(&answer.response));
    decorate(&mut response, answer.failure.as_ref());
    response
}

/// The HTTP status of a failure, for both media types.
pub(super) fn status(failure: &Error) -> StatusCode {
    match failure.code() {
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::OrganizationMismatch
        | ErrorCode::OrganizationSuspended
        | ErrorCode::UserSuspended => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::PlanLimitExceeded | ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::IdempotencyConflict => StatusCode::CONFLICT,
        ErrorCode::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The response after a panic in a handler.
pub(super) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    failed(MediaType::Json, Error::internal("a handler panicked"), Uuid::new_v4())
}

/// Marks a response that repeats an earlier one.
fn set_replayed(response: &mut Response, replayed: bool) {
    if replayed {
        let name = HeaderName::from_static("idempotency-replayed");
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
}

/// Adds the organization's remaining calls, if its plan limits them.
pub(super) fn set_rate_limit(response: &mut Response, rate_limit: Option<RateLimit>) {
    let Some(RateLimit { limit, remaining, reset }) = rate_limit else {
        return;
    };
    let headers = [
        ("ratelimit-limit", limit),
        ("ratelimit-remaining", remaining),
        ("ratelimit-reset", reset),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, value.into());
    }
}

/// Adds the duration and the number of database messages, which browsers show in their developer
/// tools. Used in development only.
pub(super) fn set_timing(response: &mut Response, took: Duration, statements: u32) {
    let milliseconds = took.as_secs_f64() * 1_000.0;
    let timing = format!("total;dur={milliseconds:.1}, database;desc=\"{statements} messages\"");
    if let Ok(timing) = HeaderValue::from_str(&timing) {
        response.headers_mut().insert("server-timing", timing);
    }
}

/// Adds the headers of a failure.
pub(super) fn decorate(response: &mut Response, failure: Option<&Error>) {
    let headers = response.headers_mut();
    match failure {
        Some(Error::CallsExhausted(rate)) => {
            headers.insert(header::RETRY_AFTER, rate.reset.into());
        }
        Some(
            Error::RateLimited { retry_after, .. }
            | Error::IdempotencyConflict { retry_after: Some(retry_after), .. },
        ) => {
            headers.insert(header::RETRY_AFTER, (*retry_after).into());
        }
        _ => {}
    }
    match failure.map(Error::code) {
        Some(ErrorCode::Unauthenticated) => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Some(ErrorCode::Unavailable | ErrorCode::Timeout) => {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER.into());
        }
        _ => {}
    }
}
