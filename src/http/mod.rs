//! HTTP: routes, and what all of them share.

mod client_ip;
mod graphiql;
mod graphql;
mod health;
mod incoming;
mod negotiate;
mod sdl;
mod stripe;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderValue, header},
    routing::{any, get, post},
};
use ipnet::IpNet;
use tokio::{net::TcpListener, sync::oneshot};
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};

use crate::{auth::Verifier, config::Introspection, request::Engine};

pub use graphiql::TokenForPage;
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
    /// Fills in the token of GraphiQL, in development.
    pub token_for_page: Option<TokenForPage>,
    /// Whether the server can do its work.
    pub readiness: Readiness,
}

/// The routes.
pub fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/graphql", any(graphql::handle))
        .route("/org/{slug}/graphql", any(graphql::handle))
        .route("/", get(graphiql::front))
        .route("/graphiql", get(graphiql::page))
        .route("/org/{slug}/graphiql", get(graphiql::page))
        .route("/schema.graphql", get(sdl::serve))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/webhooks/stripe", post(stripe::receive))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(CatchPanicLayer::custom(graphql::panicked))
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
    let app = router(server).into_make_service_with_connect_info::<SocketAddr>();
    let (stopping, stopped) = oneshot::channel();
    let stop = async move {
        stop.await;
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
