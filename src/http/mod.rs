//! The HTTP routes and the state and layers that all of them share. Every response passes the same
//! layers: a request id, CORS, no caching unless a handler allows it, and a caught panic.

mod activity;
mod admin;
mod answer;
mod authenticate;
mod client_ip;
mod connection_limits;
mod connections;
mod freshness;
mod graphiql;
mod graphql;
mod headers;
mod health;
mod json;
mod negotiate;
mod operation_rate;
mod persisted_documents;
mod request_body;
mod response_stream;
mod sdl;
mod sse;
mod stripe;
mod websocket;

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderValue, header},
    middleware,
    routing::{any, get, post},
};
use ipnet::IpNet;
use tokio::sync::watch;
use tower::util::option_layer;
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer, Predicate,
        predicate::{NotForContentType, SizeAbove},
    },
    set_header::SetResponseHeaderLayer,
};

use crate::{
    auth::Verifier, config::Introspection, request::GraphqlService, subscription::Subscriptions,
};

pub use admin::serve_admin;
pub use connection_limits::{ClientLimits, MIN_IDLE};
pub use connections::{STALL_TIMEOUT, serve};
pub use graphiql::{DemoUser, missing_page};
pub use health::{Readiness, check_migrations, problems};
pub use persisted_documents::PersistedDocuments;

/// The state that handlers share.
#[derive(Debug)]
pub struct Server {
    /// Executes GraphQL requests.
    pub service: Arc<GraphqlService>,
    /// The open subscriptions.
    pub subscriptions: Subscriptions,
    /// Verifies the tokens of callers.
    pub verifier: Verifier,
    /// Who may introspect the schema.
    pub introspection: Introspection,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// The largest size of a request body, in bytes.
    pub max_body_bytes: usize,
    /// The most operations in a batch.
    pub max_batch: usize,
    /// Demo users to choose from in GraphiQL. Empty outside of development.
    pub demo_users: Vec<DemoUser>,
    /// Persisted or trusted documents.
    pub documents: PersistedDocuments,
    /// Origins whose pages may call the API.
    pub cors_origins: Vec<HeaderValue>,
    /// Limits on connections.
    pub client_limits: ClientLimits,
    /// Tells sockets and event streams that the server stops.
    pub stop: watch::Sender<bool>,
    /// The cached result of the readiness check.
    pub readiness: Readiness,
}

impl Server {
    /// Resolves when the server stops.
    fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.subscribe();
        async move {
            // The sender lives as long as the server.
            let _ = stop.wait_for(|stops| *stops).await;
        }
    }
}

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
        .route("/graphiql/people.json", get(graphiql::demo_users))
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
            CompressionLayer::new()
                .compress_when(SizeAbove::new(1_024).and(NotForContentType::SSE)),
        )
        .layer(CatchPanicLayer::custom(answer::panicked))
        .layer(option_layer(cors))
        .layer(headers::not_cached())
        .layer(middleware::from_fn(headers::name_request))
        .with_state(server)
}
