//! What `dev` and `serve` share: the settings of a server, its checks, its start and its end.

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
    background::Background,
    clock::Clock,
    config::{BusinessConfig, DatabaseConfig, HttpConfig, Introspection, JwtConfig, LogConfig},
    http::{
        self, ClientLimits, DemoUser, MIN_IDLE, PersistedDocuments, Readiness, STALL_TIMEOUT,
        Server, serve_admin,
    },
    mail::Mailer,
    metrics::Metrics,
    rate_limit::Throttle,
    request::GraphqlService,
    schema::Api,
    subscription::Subscriptions,
    tenancy::{Databases, Severity},
    usage::Meter,
};

/// The settings of a server.
#[derive(Debug, clap::Args)]
pub(super) struct ServerConfig {
    #[command(flatten)]
    pub(super) database: DatabaseConfig,
    #[command(flatten)]
    pub(super) jwt: JwtConfig,
    #[command(flatten)]
    pub(super) http: HttpConfig,
    #[command(flatten)]
    pub(super) business: BusinessConfig,
    #[command(flatten)]
    pub(super) log: LogConfig,
}

impl ServerConfig {
    /// Builds a server, unless the self-check finds a fault, or `TRIAL_PLAN` names no plan.
    pub(super) async fn build(
        &self,
        databases: Databases,
        users: Vec<DemoUser>,
    ) -> Result<ReadyServer, Failure> {
        let ready = self.assemble(databases, users)?;
        let databases = &ready.server.service.databases;
        let problems = http::problems(databases).await;
        if !problems.is_empty() {
            return Err(Failure::new(problems.join("\n")));
        }
        let Some(plan) = &self.business.trial_plan else { return Ok(ready) };
        match databases.check_trial_plan(plan).await? {
            Some(finding) if finding.severity == Severity::Fault => {
                return Err(Failure::new(finding));
            }
            Some(finding) => tracing::warn!(%finding, "new organizations start without a trial"),
            None => {}
        }
        Ok(ready)
    }

    fn assemble(&self, databases: Databases, users: Vec<DemoUser>) -> Result<ReadyServer, Failure> {
        let Self { http, jwt, business, .. } = self;
        let clock = Clock::system();
        let verifier = jwt.verifier(clock.clone())?;
        let settings = business.settings(clock)?;
        let mailer = business.mail.mailer()?;
        let metrics = Metrics::new();
        let databases = databases.with_session_cache(http.clients.session_cache_size);
        let connections = databases.max_connections();
        let service = GraphqlService {
            api: Api::new(http.limits(), http.schema.federation)?,
            meter: Meter::new(databases.clone(), settings.clone(), metrics.clone()),
            concurrency: ConcurrencyLimiter::new(AdmissionLimits {
                running: (connections / 2).max(1),
                outside: connections.div_ceil(4),
                // The other processors are for requests whose documents are already cached.
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
            introspection: http.schema.introspection != Introspection::Never,
        };
        let connections = service.databases.max_connections();
        let server = Server {
            service: Arc::new(service),
            subscriptions: Subscriptions::new(http.clients.subscription_limits(), connections),
            verifier,
            introspection: http.schema.introspection,
            trusted_proxies: http.trusted_proxies.clone(),
            max_body_bytes: http.max_body_bytes,
            max_batch: http.max_batch,
            demo_users: users,
            documents: match &http.trusted_documents {
                Some(manifest) => PersistedDocuments::trusted(manifest)?,
                None => PersistedDocuments::open(),
            },
            cors_origins: http.cors_origins.clone(),
            client_limits: client_limits(http),
            stop: watch::Sender::new(false),
            readiness: Readiness::default(),
        };
        Ok(ReadyServer { server: Arc::new(server), mailer })
    }
}

/// A server that can start.
pub(super) struct ReadyServer {
    pub(super) server: Arc<Server>,
    mailer: Option<Mailer>,
}

impl ReadyServer {
    /// Serves until `stop`, with background work.
    pub(super) async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
        grace: Duration,
    ) -> Result<(), Failure> {
        let background = Background::start(Arc::clone(&self.server.service), self.mailer);
        let outcome = http::serve(listener, self.server, stop, grace).await;
        background.stop().await;
        Ok(outcome?)
    }
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
        let address = listener.local_addr()?;
        tracing::info!(%address, "serving operators");
        tokio::spawn(serve_admin(listener, Arc::clone(server)));
    }
    Ok(())
}

/// Installs handlers for Ctrl-C and SIGTERM at once. The returned future resolves when one of the
/// signals arrives.
pub(super) fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
