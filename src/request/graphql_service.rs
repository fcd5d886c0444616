//! What every request needs.

use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::{
    admission::{AttemptLimiter, ConcurrencyLimiter, RateLimiter},
    metrics::Metrics,
    schema::Api,
    tenancy::{Budget, Databases, Settings},
    usage::Meter,
};

/// Everything needed to execute requests; one per server.
#[derive(Debug)]
pub struct GraphqlService {
    /// The GraphQL schema.
    pub api: Api,
    /// The connection pools of all databases.
    pub databases: Databases,
    /// The clock and the settings of sessions.
    pub settings: Settings,
    /// Counts API calls.
    pub meter: Meter,
    /// Limits concurrent requests.
    pub concurrency: ConcurrencyLimiter,
    /// Limits attempts at guessing secrets and at sending e-mail.
    pub attempts: AttemptLimiter,
    /// Limits operations per user and per address.
    pub operations: RateLimiter,
    /// The server's metrics.
    pub metrics: Metrics,
    /// Running mutations. Shutdown waits for them, even if their clients have disconnected.
    pub mutations: TaskTracker,
    /// The time from a request's start until its COMMIT must be sent.
    pub timeout: Duration,
    /// The limit of statements and bytes per request.
    pub budget: Budget,
    /// Whether clients may introspect the schema.
    pub introspection: bool,
}
