//! Liveness (`/healthz`) and readiness (`/readyz`).

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::Server;

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(server): State<Arc<Server>>) -> Response {
    if *server.stop.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false }))).into_response();
    }
    let problems = server.readiness.problems(&server.service.databases).await;
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !problems.is_empty() {
        tracing::warn!(?problems, "not ready");
    }
    // Clients do not learn the reason. Operators find it in the log.
    (status, Json(json!({ "ready": problems.is_empty() }))).into_response()
}
