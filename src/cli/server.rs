//! What `dev` and `serve` share: building a server from its settings, and stopping it.

use std::{net::SocketAddr, sync::Arc, thread::available_parallelism, time::Duration};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use tokio_util::task::TaskTracker;

use super::Failure;
use crate::{
    admission::{AdmissionLimits, AttemptLimiter, ConcurrencyLimiter, RateLimiter},
    clock::Clock,
    config::{BusinessConfig, HttpConfig, JwtConfig},
    http::{
        ClientLimits, DemoUser, MIN_IDLE, PersistedDocuments, Readiness, STALL_TIMEOUT, Server,
        serve_admin,
    },
    metrics::Metrics,
    rate_limit::Throttle,
    request::GraphqlService,
    schema::Api,
    subscription::Subscriptions,
    tenancy::Databases,
    usage::Meter,
};

/// Builds a server from its settings.
pub(super) fn build(
    http: &HttpConfig,
    jwt: &JwtConfig,
    business: &BusinessConfig,
    databases: Databases,
    users: Vec<DemoUser>,
) -> Result<Arc<Server>, Failure> {
    let clock = Clock::system();
    let verifier = jwt.verifier(clock.clone()).map_err(Failure::new)?;
    let settings = business.settings(clock).map_err(Failure::new)?;
    let metrics = Metrics::new();
    let databases = databases.with_session_cache(http.clients.session_cache_size);
    let connections = databases.max_connections();
    let service = GraphqlService {
        api: Api::new(http.limits(), http.schema.federation).map_err(Failure::new)?,
        meter: Meter::new(databases.clone(), settings.clone(), metrics.clone()),
        concurrency: ConcurrencyLimiter::new(AdmissionLimits {
            running: (connections / 2).max(1),
            outside: connections.div_ceil(4),
            // The other processors are reserved for requests whose documents are already cached.
            reading: available_parallelism().map_or(1, |count| (count.get() / 2).max(1)),
            waiting: http.max_waiting,
            wait: databases.acquire_timeout(),
        }),
        attempts: AttemptLimiter::new(http.max_attempts, http.max_attempts_by_address),
        operations: RateLimiter::new(
            Throttle::Rate,
            http.max_operations,
            http.max_operations_by_address,
        ),
        metrics,
        mutations: TaskTracker::new(),
        databases,
        settings,
        timeout: Duration::from_secs(http.request_timeout),
        budget: http.budget(),
        introspection: http.schema.introspection != crate::config::Introspection::Never,
    };
    let connections = service.databases.max_connections();
    Ok(Arc::new(Server {
        service: Arc::new(service),
        subscriptions: Subscriptions::new(http.clients.subscription_limits(), connections),
        verifier,
        introspection: http.schema.introspection,
        trusted_proxies: http.trusted_proxies.clone(),
        max_body_bytes: http.max_body_bytes,
        max_batch: http.max_batch,
        demo_users: users,
        documents: match &http.trusted_documents {
            Some(manifest) => PersistedDocuments::trusted(manifest).map_err(Failure::new)?,
            None => PersistedDocuments::open(),
        },
        cors_origins: http.cors_origins.clone(),
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
        // No address may take all connections, even if the limit is small.
        connections_by_address: by_address.min(connections.div_ceil(2)),
        header_timeout: Duration::from_secs(http.header_timeout),
        idle_timeout: Duration::from_secs(http.idle_timeout),
        websocket_idle_timeout: Duration::from_secs(http.clients.websocket_idle_timeout),
        stall_timeout: STALL_TIMEOUT,
        min_idle: MIN_IDLE,
    }
}

/// Serves the endpoints for operators at `ADMIN_ADDR`, if it is set.
pub(super) async fn serve_operators(
    address: Option<SocketAddr>,
    server: &Arc<Server>,
) -> Result<(), Failure> {
    if let Some(address) = address {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Failure::new(format!("ADMIN_ADDR {address}: {error}")))?;
        let address = listener.local_addr().map_err(Failure::new)?;
        tracing::info!(%address, "serving operators");
        tokio::spawn(serve_admin(listener, Arc::clone(server)));
    }
    Ok(())
}

/// Installs handlers for Ctrl-C and SIGTERM at once. The returned future resolves when one of the
/// signals arrives.
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
