//! The state that the handlers of all routes share.

use std::sync::Arc;

use axum::http::HeaderValue;
use ipnet::IpNet;
use tokio::sync::watch;

use super::{ClientLimits, DemoUser, PersistedDocuments, Readiness};
use crate::{
    auth::Verifier, config::Introspection, request::GraphqlService, subscription::Subscriptions,
};

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
    pub(super) fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.subscribe();
        async move {
            // The sender lives as long as the server.
            let _ = stop.wait_for(|stops| *stops).await;
        }
    }
}
