//! HTTP: routes, and what all of them share.

mod answer;
mod client_ip;
mod documents;
mod graphiql;
mod graphql;
mod headers;
mod health;
mod incoming;
mod negotiate;
mod results;
mod sdl;
mod sse;
mod stripe;
mod websocket;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderValue, header},
    middleware,
    routing::{any, get, post},
};
use ipnet::IpNet;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
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

use crate::{auth::Verifier, config::Introspection, request::Engine};

pub use documents::Documents;
pub use graphiql::{Person, missing_page};
pub use health::{Readiness, check_migrations, problems};

/// Everything that handlers share.
#[derive(Debug)]
pub struct Server {
    /// Answers GraphQL requests.
    pub engine: Arc<Engine>,
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
    pub people: Vec<Person>,
    /// Documents that clients name.
    pub documents: Documents,
    /// Origins whose pages may ask.
    pub cors_origins: Vec<HeaderValue>,
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
        .layer(middleware::from_fn(headers::name_request))
        .with_state(server)
}

/// Serves until `stop` resolves, then finishes what was begun, but waits no longer than `grace` for clients.
///
/// # Errors
///
/// When the socket fails.
pub async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    stop: impl Future<Output = ()> + Send + 'static,
    grace: Duration,
) -> std::io::Result<()> {
    let stop_streams = server.stop.clone();
    let app = router(server).into_make_service_with_connect_info::<SocketAddr>();
    let (stopping, stopped) = oneshot::channel();
    let stop = async move {
        stop.await;
        stop_streams.send_replace(true);
        // The receiver is gone only when nobody waits any more.
        let _ = stopping.send(());
    };
    let deadline = async move {
        match stopped.await {
            Ok(()) => tokio::time::sleep(grace).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = axum::serve(listener, app).with_graceful_shutdown(stop) => outcome,
        () = deadline => {
            tracing::warn!("clients did not finish in time: their connections are closed");
            Ok(())
        }
    }
}
