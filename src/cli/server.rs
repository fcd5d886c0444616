//! What `dev` and `serve` share: a server made from settings, and its end.

use std::{sync::Arc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use tokio_util::task::TaskTracker;

use super::Failure;
use crate::{
    admission::{AdmissionLimits, Attempts, Gates},
    clock::Clock,
    config::{HttpConfig, JwtConfig, RulesConfig},
    http::{ClientLimits, Documents, MIN_IDLE, Person, Readiness, STALL_TIMEOUT, Server},
    metrics::Metrics,
    request::Engine,
    schema::Api,
    subscription::Subscriptions,
    tenancy::Placement,
    usage::Meter,
};

/// A server from its settings.
pub(super) fn build(
    http: &HttpConfig,
    jwt: &JwtConfig,
    rules: &RulesConfig,
    placement: Placement,
    people: Vec<Person>,
    local_metrics: bool,
) -> Result<Arc<Server>, Failure> {
    let clock = Clock::system();
    let environment = rules.environment(clock.clone(), jwt).map_err(Failure::new)?;
    let metrics = Metrics::new();
    let engine = Engine {
        api: Api::new(http.limits()).map_err(Failure::new)?,
        meter: Meter::new(placement.clone(), environment.clone(), metrics.clone()),
        gates: Gates::new(AdmissionLimits {
            running: (placement.max_connections() / 2).max(1),
            waiting: http.max_waiting,
            wait: placement.acquire_timeout(),
        }),
        attempts: Attempts::new(http.max_attempts, http.max_attempts_by_address),
        metrics,
        mutations: TaskTracker::new(),
        placement,
        environment,
        timeout: Duration::from_secs(http.request_timeout),
        budget: http.budget(),
        introspection: http.introspection != crate::config::Introspection::Never,
    };
    let connections = engine.placement.max_connections();
    Ok(Arc::new(Server {
        engine: Arc::new(engine),
        subscriptions: Subscriptions::new(http.clients.subscription_limits(), connections),
        verifier: jwt.verifier(clock).map_err(Failure::new)?,
        introspection: http.introspection,
        trusted_proxies: http.trusted_proxies.clone(),
        max_body_bytes: http.max_body_bytes,
        max_batch: http.max_batch,
        people,
        documents: match &http.trusted_documents {
            Some(manifest) => Documents::trusted(manifest).map_err(Failure::new)?,
            None => Documents::open(),
        },
        cors_origins: http.cors_origins.clone(),
        local_metrics,
        client_limits: client_limits(http),
        stop: watch::Sender::new(false),
        readiness: Readiness::default(),
    }))
}

fn client_limits(http: &HttpConfig) -> ClientLimits {
    let connections = http.max_client_connections;
    let by_address = http.clients.max_client_connections_by_address;
    ClientLimits {
        connections,
        // No address can take every place, however few there are.
        connections_by_address: by_address.min(connections.div_ceil(2)),
        header_timeout: Duration::from_secs(http.header_timeout),
        idle_timeout: Duration::from_secs(http.idle_timeout),
        websocket_idle_timeout: Duration::from_secs(http.clients.websocket_idle_timeout),
        stall_timeout: STALL_TIMEOUT,
        min_idle: MIN_IDLE,
    }
}

/// Listens, from now on, for somebody who asks the process to end: Ctrl-C, or SIGTERM. The future resolves when they do.
pub(super) fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::new)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::new)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
