//! The HTTP routes and the layers that all of them share. Every response passes the same
//! layers: a request id, CORS, no caching unless a handler allows it, and a caught panic.

mod activity;
mod admin;
mod answer;
mod authenticate;
mod client_ip;
mod connection_limits;
mod connections;
mod demo_user;
mod freshness;
mod graphiql;
mod graphql;
mod headers;
mod health;
mod json;
mod media_range;
mod multipart;
mod negotiate;
mod operation_rate;
mod persisted_documents;
mod readiness;
mod request_body;
mod response_stream;
mod sdl;
mod server;
mod sse;
mod stripe;
mod unsupported;
mod websocket;

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderValue, header},
    middleware,
    routing::{any, get, post},
};
use tower::util::option_layer;
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer, Predicate,
        predicate::{NotForContentType, SizeAbove},
    },
    set_header::SetResponseHeaderLayer,
};

pub use admin::serve_admin;
pub use connection_limits::{ClientLimits, MIN_IDLE};
pub use connections::{STALL_TIMEOUT, serve};
pub use demo_user::DemoUser;
pub use graphiql::missing_page;
pub use persisted_documents::PersistedDocuments;
pub use readiness::{Readiness, check_migrations, problems};
pub use server::Server;

/// Returns the routes.
pub fn router(server: Arc<Server>) -> Router {
    // Without allowed origins, preflight requests get no CORS headers.
    let cors = (!server.cors_origins.is_empty()).then(|| headers::cors(&server.cors_origins));
    Router::new()
        .route("/graphql", any(graphql::handle))
        .route("/org/{slug}/graphql", any(graphql::handle))
        .route("/", get(graphiql::front))
        .route("/org/{slug}", get(graphiql::front))
        .route("/graphiql", get(graphiql::page))
        .route("/org/{slug}/graphiql", get(graphiql::page))
        .route("/graphiql/users.json", get(graphiql::demo_users))
        .route("/graphiql/assets/{name}", get(graphiql::asset))
        .route("/schema.graphql", get(sdl::serve))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/webhooks/stripe", post(stripe::receive))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(
            CompressionLayer::new().compress_when(
                SizeAbove::new(1_024)
                    .and(NotForContentType::SSE)
                    .and(NotForContentType::const_new("multipart/mixed")),
            ),
        )
        .layer(CatchPanicLayer::custom(answer::panicked))
        .layer(option_layer(cors))
        .layer(headers::not_cached())
        .layer(middleware::from_fn(headers::name_request))
        .with_state(server)
}
