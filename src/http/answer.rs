//! From what became of a request to an HTTP response: status, headers, body.

use std::time::Duration;

use async_graphql::{Response as GraphqlResponse, ServerError};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use uuid::Uuid;

use super::{incoming::Unsupported, negotiate::MediaType, results::json as serialize};
use crate::{
    error::{Error, ErrorCode},
    graphql::{RETRY_AFTER, Refusal},
    rate_limit::RateLimit,
    request::Answer,
};

impl Unsupported {
    pub(super) fn answer(self, media: MediaType) -> Response {
        let Self(status, message) = self;
        let error = Refusal { code: ErrorCode::UnsupportedRequest, message, location: None };
        let body = errors_only(&GraphqlResponse::from_errors(vec![error.into()]));
        let mut response = json(media, status, body);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, POST, OPTIONS"));
        }
        response
    }
}

/// The body of a request that was not executed: without `data`.
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

/// What became of a request that the server itself stumbled over.
pub(super) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    let answer = Answer::failed(Error::internal("a handler panicked"), Uuid::new_v4());
    json(MediaType::Json, StatusCode::INTERNAL_SERVER_ERROR, errors_only(&answer.response))
}

/// How many calls the organization has left, where its plan limits them.
pub(super) fn tell_rate_limit(response: &mut Response, rate_limit: Option<RateLimit>) {
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

/// How long it took, and how many messages to the database: for browsers' developer tools, in development.
pub(super) fn tell_timing(response: &mut Response, took: Duration, statements: u32) {
    let milliseconds = took.as_secs_f64() * 1_000.0;
    let timing = format!("total;dur={milliseconds:.1}, database;desc=\"{statements} messages\"");
    if let Ok(timing) = HeaderValue::from_str(&timing) {
        response.headers_mut().insert("server-timing", timing);
    }
}

/// The headers that belong to a failure.
pub(super) fn decorate(response: &mut Response, failure: Option<&Error>) {
    let headers = response.headers_mut();
    if let Some(Error::CallsExhausted(rate)) = failure {
        headers.insert(header::RETRY_AFTER, rate.reset.into());
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
