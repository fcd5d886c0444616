//! GraphiQL, built from `web/` and embedded in the binary. The page loads nothing from other hosts,
//! and its content security policy enforces that.

use std::{borrow::Cow, collections::BTreeMap, io::Read, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use flate2::read::GzDecoder;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::{Server, headers::is_known};
use crate::config::Introspection;

include!(concat!(env!("OUT_DIR"), "/web.rs"));

/// A file of the page.
struct File {
    name: &'static str,
    content_type: &'static str,
    etag: &'static str,
    gzip: &'static [u8],
}

/// Inline styles are allowed because the editor sets them. Everything else must be a file of ours.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Why this binary lacks the page. `None` if it has the page.
#[must_use]
pub fn missing_page() -> Option<&'static str> {
    MISSING
}

/// Leads browsers from `/` and `/org/{slug}` to the page.
pub(super) async fn front(
    State(server): State<Arc<Server>>,
    slug: Option<Path<String>>,
) -> Response {
    const NONE: &str = "The API is at /graphql and /org/{slug}/graphql.\n";
    if server.introspection == Introspection::Never {
        return (StatusCode::NOT_FOUND, NONE).into_response();
    }
    let demo = server.demo_users.first().map(|user| user.organization.to_owned());
    let page = match slug.map(|Path(slug)| slug).or(demo) {
        Some(slug) => format!("/org/{}/graphiql", utf8_percent_encode(&slug, OUTSIDE_OF_SLUGS)),
        None => "/graphiql".to_owned(),
    };
    Redirect::temporary(&page).into_response()
}

/// Leads a browser that opens the address of the API to the page. Its request has no document.
pub(super) fn redirect_browser(parts: &Parts, server: &Server) -> Option<Response> {
    if parts.method != Method::GET || parts.uri.query().is_some() {
        return None;
    }
    let accept = parts.headers.get(header::ACCEPT)?.to_str().ok()?;
    let place = parts.uri.path().strip_suffix("graphql")?;
    let is_served = server.introspection != Introspection::Never;
    (is_served && accept.starts_with("text/html"))
        .then(|| Redirect::temporary(&format!("{place}graphiql")).into_response())
}

/// A slug has letters, digits and hyphens.
const OUTSIDE_OF_SLUGS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-');

/// Serves the page. It is the same for all organizations and reads the slug from its address.
pub(super) async fn page(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    if server.introspection == Introspection::Never {
        return (StatusCode::NOT_FOUND, "introspection is disabled\n").into_response();
    }
    let mut response = match FILES.iter().find(|file| file.name == "index.html") {
        Some(file) => serve(file, &headers, "no-cache"),
        None => missing(),
    };
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// Serves a file of the page. Its name changes with its content.
pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let name = format!("assets/{name}");
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => serve(file, &headers, "public, max-age=31536000, immutable"),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Serves the demo users to choose from. Empty outside of development.
pub(super) async fn demo_users(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    // DNS rebinding: a foreign name that resolves to this machine must not expose the tokens.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let users =
        if ["127.0.0.1", "localhost"].contains(&host) { &server.demo_users[..] } else { &[] };
    ([(header::CACHE_CONTROL, "no-store")], Json(json!({ "users": users }))).into_response()
}

fn serve(file: &'static File, headers: &HeaderMap, cache: &'static str) -> Response {
    let common = [
        (header::ETAG, file.etag),
        (header::CACHE_CONTROL, cache),
        (header::VARY, "accept-encoding"),
        (header::CONTENT_TYPE, file.content_type),
    ];
    if is_known(headers, file.etag) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    if accepted.is_some_and(|accepted| accepted.contains("gzip")) {
        return (common, [(header::CONTENT_ENCODING, "gzip")], file.gzip).into_response();
    }
    match plain(file) {
        Ok(plain) => (common, plain).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The decompressed file. All responses share one copy, because a slow client keeps it in memory.
fn plain(file: &'static File) -> std::io::Result<Bytes> {
    static PLAIN: Mutex<BTreeMap<&str, Bytes>> = Mutex::new(BTreeMap::new());
    let mut known = PLAIN.lock();
    if let Some(plain) = known.get(file.name) {
        return Ok(plain.clone());
    }
    let mut plain = Vec::new();
    GzDecoder::new(file.gzip).read_to_end(&mut plain)?;
    let plain = Bytes::from(plain);
    known.insert(file.name, plain.clone());
    Ok(plain)
}

fn missing() -> Response {
    let reason = MISSING.map_or(Cow::Borrowed(""), |reason| Cow::Owned(format!(" ({reason})")));
    let text = format!(
        "This server was built without GraphiQL{reason}.\n\nTo include it, install Node.js with npm and build again: cargo build.\n\
         The API is available at /graphql and /org/{{slug}}/graphql.\n"
    );
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text)
        .into_response()
}
