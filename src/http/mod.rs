//! HTTP: routes, and what all of them share.

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

/// Everything that handlers share.
#[derive(Debug)]
pub struct Server {
    /// Answers GraphQL requests.
    pub service: Arc<GraphqlService>,
    /// What clients watch.
    pub subscriptions: Subscriptions,
    /// Knows callers by their tokens.
    pub verifier: Verifier,
    /// Who may explore the schema.
    pub introspection: Introspection,
    /// Proxies whose word about the client's address counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Bytes of a body.
    pub max_body_bytes: usize,
    /// Operations of a batch.
    pub max_batch: usize,
    /// Who can be picked in GraphiQL, in development.
    pub people: Vec<DemoUser>,
    /// Documents that clients name.
    pub documents: PersistedDocuments,
    /// Origins whose pages may ask.
    pub cors_origins: Vec<HeaderValue>,
    /// What clients may cost before they have asked for anything.
    pub client_limits: ClientLimits,
    /// Says that the server stops, to what would go on for ever.
    pub stop: watch::Sender<bool>,
    /// Whether the server can do its work.
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

/// The routes.
pub fn router(server: Arc<Server>) -> Router {
    // Without origins there is nobody to answer in their place.
    let cors = (!server.cors_origins.is_empty()).then(|| headers::cors(&server.cors_origins));
    Router::new()
        .route("/graphql", any(graphql::handle))
        .route("/org/{slug}/graphql", any(graphql::handle))
        .route("/", get(graphiql::front))
        .route("/graphiql", get(graphiql::page))
        .route("/org/{slug}/graphiql", get(graphiql::page))
        .route("/graphiql/people.json", get(graphiql::people))
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
