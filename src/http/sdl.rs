//! Serves the schema as a file, to the callers that may introspect it.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use axum::{
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    Server,
    answer::failed,
    authenticate::{authenticate, refused_caller},
    client_ip::client_ip,
    headers::{is_known, request_id},
    negotiate::MediaType,
    operation_rate::charge,
};
use crate::{admission::Source, config::Introspection, schema, text::sha256};

/// The schema and its entity tag.
static SDL: LazyLock<(String, String)> = LazyLock::new(|| {
    let sdl = schema::sdl();
    let tag = format!("\"{}\"", &sha256(&sdl)[..32]);
    (sdl, tag)
});

pub(super) async fn serve(
    State(server): State<Arc<Server>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let address = client_ip(&headers, peer, &server.trusted_proxies);
    let allowed = match server.introspection {
        Introspection::Always => true,
        Introspection::Never => false,
        Introspection::Authenticated => match authenticate(&server, &headers).await {
            Ok(_) => true,
            Err(error) => {
                let error = refused_caller(&server, error, Some(address));
                return failed(MediaType::Json, error, request_id(&headers));
            }
        },
    };
    if let Err(error) = charge(&server, Source { caller: None, address: Some(address) }, 1, 0) {
        return failed(MediaType::Json, error, request_id(&headers));
    }
    if !allowed {
        return (StatusCode::NOT_FOUND, "introspection is disabled\n").into_response();
    }
    let (sdl, tag) = &*SDL;
    // A build that requests the schema repeatedly can validate its copy.
    let cache = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, "private, no-cache")];
    if is_known(&headers, tag) {
        return (StatusCode::NOT_MODIFIED, cache).into_response();
    }
    let content_type = [(header::CONTENT_TYPE, "application/graphql; charset=utf-8")];
    (cache, content_type, sdl.as_str()).into_response()
}
