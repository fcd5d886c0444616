//! Headers of all responses: the request id, CORS and caching.

use std::time::Duration;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    response::Response,
};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use uuid::Uuid;

use super::unsupported::Unsupported;
use crate::idempotency::IdempotencyKey;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Identifies a mutation, so that a repetition does not run it twice.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How long browsers may cache a preflight response.
const PREFLIGHT_AGE: Duration = Duration::from_hours(2);

/// The id of a request: the client's if it is a UUID, otherwise a new one. The response, the log
/// and errors contain it.
pub(super) fn request_id(headers: &HeaderMap) -> Uuid {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    given.and_then(|text| Uuid::try_parse(text).ok()).unwrap_or_else(Uuid::new_v4)
}

/// The client's idempotency key, if it sent one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Unsupported> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|_| values.next().is_none()).unwrap_or_default();
    IdempotencyKey::parse(text).map(Some).map_err(Unsupported::bad)
}

/// Whether the client asks for a WebSocket. Other protocols that it offers, such as `h2c`, are
/// ignored (RFC 9110, section 7.8).
pub(super) fn is_websocket(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::UPGRADE).iter().filter_map(|value| value.to_str().ok());
    let mut protocols = offers.flat_map(|value| value.split(','));
    protocols.any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// Whether the client already has the content with this entity tag.
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known =
        headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(','));
    known.any(|known| known.trim().trim_start_matches("W/") == tag)
}

/// Assigns the request its id, and returns the id for its response.
pub(super) fn name_request(request: &mut Request) -> HeaderValue {
    let id = request_id(request.headers());
    // A UUID is ASCII, so this cannot fail.
    let value = HeaderValue::from_str(&id.to_string()).unwrap_or(HeaderValue::from_static(""));
    request.headers_mut().insert(REQUEST_ID, value.clone());
    value
}

/// Adds the headers of every response of the API.
pub(super) fn complete(mut response: Response, id: HeaderValue) -> Response {
    let headers = response.headers_mut();
    let nosniff = HeaderValue::from_static("nosniff");
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(nosniff);
    headers.insert(REQUEST_ID, id);
    not_cached(response)
}

/// Keeps a response out of caches, some of which store one in spite of `Authorization`. A response
/// that may be cached sets the header itself.
pub(super) fn not_cached(mut response: Response) -> Response {
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(no_store);
    response
}

/// Names the request headers on which all responses to GraphQL requests depend.
pub(super) fn vary(mut response: Response) -> Response {
    let value = HeaderValue::from_static("accept, authorization");
    response.headers_mut().append(header::VARY, value);
    response
}

/// Lets pages of these origins call the API and read responses.
pub(super) fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let exposed = [
        "idempotency-replayed",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "retry-after",
        "served-by",
        "write-position",
        "x-request-id",
    ];
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.iter().cloned()))
        .allow_methods([Method::GET, Method::POST])
        // Tracing and client libraries add further headers. The list of origins decides which
        // pages may call the API.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(PREFLIGHT_AGE)
}
