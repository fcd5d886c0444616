//! The endpoints for operators, served at `ADMIN_ADDR` only: `/metrics`, `/healthz`, `/readyz`.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::header,
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::{Server, headers, health};
use crate::metrics::Snapshot;

/// A database that does not respond must not delay the other metrics.
const BACKLOG_WAIT: Duration = Duration::from_secs(1);

/// The text format of `application/openmetrics-text`, which Prometheus reads.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves the endpoints until the server stops.
///
/// # Errors
///
/// If the socket fails.
pub async fn serve_admin(listener: TcpListener, server: Arc<Server>) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .layer(map_response(async |response: Response| headers::not_cached(response)));
    axum::serve(listener, routes.with_state(server)).await
}

async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let service = &server.service;
    let backlog = tokio::time::timeout(BACKLOG_WAIT, service.databases.backlog()).await;
    let (running, waiting) = service.concurrency.load();
    let snapshot = Snapshot {
        pools: service.databases.pools(),
        running,
        waiting,
        backlog: backlog.ok().and_then(Result::ok).unwrap_or_default(),
    };
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], service.metrics.text(&snapshot)).into_response()
}
