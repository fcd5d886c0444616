//! A server in this process, on its own port, over its own database.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use chrono::Utc;
use pg::ConnectOptions;
use serde_json::{Value, json};
use tenantry::{
    admission::{
        AdmissionLimits, AttemptLimiter, ConcurrencyLimiter, RateLimiter, SubscriptionLimits,
    },
    auth::{self, Claims, JwksOptions, TrustedIssuer, Verifier},
    background::Background,
    billing,
    clock::Clock,
    config::{AllSettings, Introspection},
    graphql::Limits,
    http::{ClientLimits, PersistedDocuments, Readiness, Server},
    invitation,
    mail::Mailer,
    metrics::Metrics,
    organization, plan,
    rate_limit::Throttle,
    request::GraphqlService,
    schema::Api,
    seats,
    subscription::Subscriptions,
    tenancy::{AccountLinking, Budget, Cost, DatabaseOptions, Databases, SecretKeys, Settings},
    usage::Meter,
};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::{Client, database::Database, dedicated::DedicatedDatabase};

pub const SECRET: &str = "a secret for tests of thirty-two bytes or more";

/// Settings that tests change.
pub struct AppSettings {
    pub introspection: Introspection,
    /// Whether the server is a subgraph.
    pub federation: bool,
    pub max_connections: usize,
    pub timeout: Duration,
    pub limits: Limits,
    /// The cost limit of a request.
    pub cost: Cost,
    pub clock: Clock,
    pub claims: Claims,
    pub trusted_proxies: Vec<ipnet::IpNet>,
    pub max_body_bytes: usize,
    pub client_limits: ClientLimits,
    pub subscription_limits: SubscriptionLimits,
    /// Permits of an organization, and requests that wait for one.
    pub running: usize,
    /// Permits shared by all callers outside organizations, and permits to parse new documents.
    pub outside: usize,
    pub reading: usize,
    pub waiting: usize,
    pub turn_wait: Duration,
    pub attempts: NonZeroU32,
    pub attempts_by_address: NonZeroU32,
    pub operations: NonZeroU32,
    pub operations_by_address: NonZeroU32,
    pub documents: PersistedDocuments,
    pub cors_origins: Vec<http::HeaderValue>,
    pub secret_keys: SecretKeys,
    pub account_linking: AccountLinking,
    /// The settings of the areas.
    pub areas: AllSettings,
    /// The source of the keys of tokens, if it is not the shared secret.
    pub issuer: Option<JwksOptions>,
    /// The mailer. `rules` must enable mail.
    pub mailer: Option<Mailer>,
    /// The directory of a relay's socket in front of PostgreSQL.
    pub socket: Option<std::path::PathBuf>,
    /// Prepared statements of a connection; 0 as behind a pooler.
    pub statement_cache: usize,
    /// The dedicated databases of the server.
    pub dedicated: Vec<DedicatedDatabase>,
}

impl Default for AppSettings {
    fn default() -> Self {
        Self {
            introspection: Introspection::Authenticated,
            federation: false,
            max_connections: 4,
            timeout: Duration::from_secs(10),
            limits: Limits {
                suggestions: true,
                tokens: 5_000,
                depth: 12,
                introspection_depth: 20,
                complexity: 10_000,
                aliases: 30,
                root_mutations: 10,
            },
            cost: Cost { statements: 300, bytes: 4 * 1024 * 1024 },
            clock: Clock::system(),
            claims: Claims::default(),
            trusted_proxies: Vec::new(),
            max_body_bytes: 1024 * 1024,
            client_limits: ClientLimits {
                connections: 1_000,
                connections_by_address: 1_000,
                header_timeout: Duration::from_secs(10),
                idle_timeout: Duration::from_secs(75),
                websocket_idle_timeout: Duration::from_mins(1),
                stall_timeout: tenantry::http::STALL_TIMEOUT,
                min_idle: tenantry::http::MIN_IDLE,
            },
            subscription_limits: SubscriptionLimits { by_user: 100, by_organization: 2_000 },
            documents: PersistedDocuments::open(),
            cors_origins: Vec::new(),
            secret_keys: SecretKeys::new(vec![b"a key for tests".to_vec()]),
            account_linking: AccountLinking::Never,
            areas: AllSettings {
                billing: billing::Settings {
                    trial_plan: None,
                    trial_term: chrono::Duration::days(14),
                    public_url: "https://app.example".to_owned(),
                    stripe: None,
                },
                invitation: invitation::Settings {
                    term: chrono::Duration::days(7),
                    public_url: "https://app.example".to_owned(),
                    sends_mail: false,
                    max_mails: NonZeroU32::MAX,
                },
                organization: organization::Settings { max_owned: 3 },
                plan: plan::Settings { grace: chrono::Duration::days(7) },
                seats: seats::Settings {
                    mode: None,
                    proration: seats::Proration::CreateProrations,
                },
            },
            running: 2,
            outside: 2,
            reading: 2,
            waiting: 256,
            turn_wait: Duration::from_secs(5),
            attempts: NonZeroU32::MAX,
            attempts_by_address: NonZeroU32::MAX,
            operations: NonZeroU32::MAX,
            operations_by_address: NonZeroU32::MAX,
            issuer: None,
            mailer: None,
            socket: None,
            statement_cache: 100,
            dedicated: Vec::new(),
        }
    }
}

/// A running server.
pub struct App {
    pub base: String,
    /// The base URL of the operators' listener.
    pub admin: String,
    pub database: Database,
    pub service: Arc<GraphqlService>,
    pub server: Arc<Server>,
    pub background: Background,
    /// Stops the server with the app, so that other tests can use its connections.
    _serving: Serving,
}

struct Serving([tokio::task::AbortHandle; 2]);

impl Drop for Serving {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl App {
    pub async fn start() -> Self {
        Self::with(AppSettings::default()).await
    }

    pub async fn with(settings: AppSettings) -> Self {
        Self::on(Database::create().await, settings).await
    }

    pub async fn on(database: Database, settings: AppSettings) -> Self {
        let through = |connect: ConnectOptions| match &settings.socket {
            Some(folder) => connect.with("host", folder.display().to_string()),
            None => connect,
        };
        let known = settings.dedicated.into_iter().chain(database.eu());
        let options = DatabaseOptions {
            connect: through(database.app()),
            system: None,
            listen: None,
            replica: None,
            dedicated: known
                .map(|dedicated| {
                    let (name, connect) = dedicated.options();
                    (name, through(connect))
                })
                .collect(),
            max_connections: settings.max_connections,
            acquire_timeout: Duration::from_secs(5),
            statement_cache: settings.statement_cache,
        };
        let server_settings = Settings {
            clock: settings.clock.clone(),
            secret_keys: Arc::new(settings.secret_keys),
            account_linking: settings.account_linking,
            areas: settings.areas.assemble(),
        };
        let databases = Databases::shared(&options).unwrap();
        let metrics = Metrics::new();
        let service = Arc::new(GraphqlService {
            api: Api::new(settings.limits, settings.federation).unwrap(),
            meter: Meter::new(databases.clone(), server_settings.clone(), metrics.clone()),
            concurrency: ConcurrencyLimiter::new(AdmissionLimits {
                running: settings.running,
                outside: settings.outside,
                reading: settings.reading,
                waiting: settings.waiting,
                wait: settings.turn_wait,
            }),
            attempts: AttemptLimiter::new(settings.attempts, settings.attempts_by_address),
            operations: RateLimiter::new(
                Throttle::Rate,
                settings.operations,
                settings.operations_by_address,
            ),
            metrics,
            mutations: TaskTracker::new(),
            databases,
            settings: server_settings,
            timeout: settings.timeout,
            budget: Budget::new(settings.cost),
            introspection: settings.introspection != Introspection::Never,
        });
        let server = Arc::new(Server {
            service: Arc::clone(&service),
            subscriptions: Subscriptions::new(
                settings.subscription_limits,
                settings.max_connections,
            ),
            verifier: Verifier::new(
                match settings.issuer {
                    Some(issuer) => {
                        vec![TrustedIssuer::with_key_set(issuer, settings.claims).unwrap()]
                    }
                    None => vec![TrustedIssuer::with_secrets(&[SECRET], settings.claims)],
                },
                settings.clock,
            ),
            introspection: settings.introspection,
            trusted_proxies: settings.trusted_proxies,
            max_body_bytes: settings.max_body_bytes,
            max_batch: 10,
            demo_users: Vec::new(),
            documents: settings.documents,
            cors_origins: settings.cors_origins,
            client_limits: settings.client_limits,
            stop: tokio::sync::watch::Sender::new(false),
            readiness: Readiness::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let operators = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = format!("http://{}", operators.local_addr().unwrap());
        let operating = tokio::spawn(tenantry::http::serve_admin(operators, Arc::clone(&server)));
        let forever = std::future::pending();
        let serving = tokio::spawn(tenantry::http::serve(
            listener,
            Arc::clone(&server),
            forever,
            Duration::ZERO,
        ));
        let background = Background::start(Arc::clone(&service), settings.mailer);
        let serving = Serving([serving.abort_handle(), operating.abort_handle()]);
        Self { base, admin, database, service, server, background, _serving: serving }
    }

    /// Returns a client with this token, at `/org/{slug}/graphql` or at `/graphql`.
    pub fn client(&self, slug: Option<&str>, token: Option<String>) -> Client {
        let path =
            slug.map_or_else(|| "/graphql".to_owned(), |slug| format!("/org/{slug}/graphql"));
        Client::new(format!("{}{path}", self.base), token)
    }

    /// Returns a client for a demo user in their organization, for example `acme-owner`.
    pub fn user(&self, subject: &str) -> Client {
        let slug = subject.split('-').next();
        self.client(slug, Some(token(subject)))
    }

    /// Returns a client for a new user without an organization.
    pub fn outsider(&self, subject: &str) -> Client {
        self.client(None, Some(token(subject)))
    }
}

/// Returns a token for a subject, valid for an hour.
pub fn token(subject: &str) -> String {
    token_with(&json!({ "sub": subject }))
}

/// Returns a token with these claims, issued now and valid for an hour unless the claims say
/// otherwise.
pub fn token_with(claims: &Value) -> String {
    let mut all = json!({ "exp": Utc::now().timestamp() + 3_600 });
    if claims.get("exp").is_none() {
        all["iat"] = json!(now());
    }
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    auth::sign(SECRET, &all).unwrap()
}

/// Returns the time in seconds, greater with each call: a token is then newer than everything
/// written before it.
#[expect(clippy::cast_precision_loss, reason = "microseconds of this century fit a double")]
pub fn now() -> f64 {
    Utc::now().timestamp_micros() as f64 / 1_000_000.0
}
