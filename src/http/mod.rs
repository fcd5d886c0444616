//! The HTTP routes, and what all of them share: a request id, no caching unless a handler allows
//! it, CORS, a caught panic and compression.

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
    extract::Request,
    response::Response,
    routing::{any, get, post},
};
use tower::{ServiceExt as _, util::option_layer};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer, Predicate,
        predicate::{NotForContentType, SizeAbove},
    },
};

pub use admin::serve_admin;
pub use connection_limits::{ClientLimits, MIN_IDLE};
pub use connections::{STALL_TIMEOUT, serve};
pub use demo_user::DemoUser;
pub use graphiql::missing_page;
pub use persisted_documents::PersistedDocuments;
pub use readiness::{Readiness, check_migrations, problems};
pub use server::Server;

/// The routes with their layers; cheap to clone.
#[derive(Clone)]
struct App(Router);

impl App {
    fn new(server: Arc<Server>) -> Self {
        // Without allowed origins, preflight requests get no CORS headers.
        let cors = (!server.cors_origins.is_empty()).then(|| headers::cors(&server.cors_origins));
        let compression = CompressionLayer::new().compress_when(
            SizeAbove::new(1_024)
                .and(NotForContentType::SSE)
                .and(NotForContentType::const_new("multipart/mixed")),
        );
        let routes = Router::new()
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
            // Together, because each call of `layer` adds a service that is boxed and cloned for
            // every request.
            .layer((option_layer(cors), CatchPanicLayer::custom(answer::panicked), compression))
            .with_state(server);
        Self(routes)
    }

    /// Responds to a request. The request and the response carry the same id.
    async fn respond(self, mut request: Request) -> Response {
        let id = headers::name_request(&mut request);
        let response = self.0.oneshot(request).await.unwrap_or_else(|never| match never {});
        headers::complete(response, id)
    }
}
