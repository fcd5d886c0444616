//! Headers that all answers share: the request's id, and who of another origin may read them.

use std::time::Duration;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::Response,
};
use tower_http::{
    cors::{AllowOrigin, CorsLayer},
    set_header::SetResponseHeaderLayer,
};
use uuid::Uuid;

use super::{
    freshness::{MAX_STALENESS, WRITE_POSITION},
    request_body::Unsupported,
};
use crate::idempotency::IdempotencyKey;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names a request, so that repeating it does nothing twice.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Browsers ask again after this.
const PREFLIGHT_AGE: Duration = Duration::from_hours(2);

/// The id of a request: of whoever sent it, if that is a UUID, else a new one. It is in the answer,
/// in the log, and in errors.
pub(super) fn request_id(headers: &HeaderMap) -> Uuid {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    given.and_then(|text| Uuid::try_parse(text).ok()).unwrap_or_else(Uuid::new_v4)
}

/// The key that the client names the request with.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Unsupported> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|_| values.next().is_none()).unwrap_or_default();
    IdempotencyKey::parse(text).map(Some).map_err(Unsupported::bad)
}

/// Whether the client has what this tag stands for.
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known =
        headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(','));
    known.any(|known| known.trim().trim_start_matches("W/") == tag)
}

/// Gives the request its id, and the answer the same.
pub(super) async fn name_request(mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    // The text of a UUID is plain ASCII.
    let value = HeaderValue::from_str(&id.to_string()).unwrap_or(HeaderValue::from_static(""));
    request.headers_mut().insert(REQUEST_ID, value.clone());
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

/// Keeps answers out of caches, which do not all hold back the answer to a request with
/// `Authorization`. An answer that may be cached says so itself.
pub(super) fn not_cached() -> SetResponseHeaderLayer<HeaderValue> {
    let value = HeaderValue::from_static("no-store");
    SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, value)
}

/// Lets pages of these origins ask and read; without origins none.
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
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::ACCEPT,
            REQUEST_ID,
            IDEMPOTENCY_KEY,
            MAX_STALENESS,
            WRITE_POSITION,
        ])
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(PREFLIGHT_AGE)
}
