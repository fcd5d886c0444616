//! Every setting: an environment variable that is also a flag, its default and its meaning.
//!
//! An invalid value ends the program with one line that names the setting.
#![expect(clippy::doc_markdown, reason = "the comments are the text of --help")]

mod areas;
mod billing;
mod business;
mod client_limits;
mod databases;
mod issuer_list;
mod jwt;
mod log;
mod mail;
mod schema;
mod secret_rotation;
mod tenant_export;

use std::{
    net::SocketAddr, num::NonZeroU32, path::PathBuf, str::FromStr, thread::available_parallelism,
    time::Duration,
};

use axum::http::HeaderValue;
use clap::Args;
use ipnet::IpNet;
use pg::ConnectOptions;

pub use areas::AllSettings;
pub use jwt::JwtConfig;
pub use schema::Introspection;

pub(crate) use billing::BillingConfig;
pub(crate) use business::BusinessConfig;
pub(crate) use client_limits::ClientsConfig;
pub(crate) use databases::{NamedDatabase, databases, is_database_name};
pub(crate) use jwt::is_loopback;
pub(crate) use log::{LogConfig, LogFormat};
pub(crate) use mail::MailConfig;
pub(crate) use schema::SchemaConfig;
pub(crate) use tenant_export::ExportConfig;

use crate::{
    graphql::Limits,
    tenancy::{Budget, Cost, DatabaseOptions},
};

/// An invalid or missing setting. The text names the setting.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl ConfigError {
    fn new(problem: &str) -> Self {
        Self(problem.to_owned())
    }
}

/// Returns the value of a setting that must be set.
pub(crate) fn required<T>(name: &str, value: Option<T>, remedy: &str) -> Result<T, ConfigError> {
    value.ok_or_else(|| ConfigError(format!("{name} is not set. {remedy}")))
}

/// The database that servers use.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub(crate) struct DatabaseConfig {
    /// PostgreSQL as the role `tenantry_app`: postgres://tenantry_app:PASSWORD@HOST/DATABASE
    #[arg(long, env, hide_env_values = true)]
    pub database_url: Option<String>,

    /// The same database as the role `tenantry_system`, for background work, webhooks and commands.
    /// Derived from DATABASE_URL when not set: the same address, and a password computed from its
    /// password. Always derived for each of DATABASES.
    #[arg(long, env, hide_env_values = true)]
    pub system_database_url: Option<String>,

    /// The database without a pooler in between, for subscriptions, which LISTEN on one connection.
    /// DATABASE_URL when not set.
    #[arg(long, env, hide_env_values = true)]
    pub database_listen_url: Option<String>,

    /// A standby of the database, for queries that accept stale data (Max-Staleness). Must name the
    /// same role as DATABASE_URL.
    #[arg(long, env, hide_env_values = true)]
    pub database_replica_url: Option<String>,

    /// Dedicated databases as NAME=URL, separated by white space. Must name the same role as
    /// DATABASE_URL.
    #[arg(long, env, hide_env_values = true)]
    pub databases: Option<String>,

    /// Connections for requests. Default: 3 for each processor, at least 6 and at most 48.
    /// Background work, health checks and subscriptions use up to 5 more. The same applies to each
    /// of DATABASES; 8 more serve all of them together.
    #[arg(long, env, value_parser = clap::value_parser!(u16).range(1..))]
    pub database_max_connections: Option<u16>,

    /// Seconds that a request waits for a free connection before it gets status 503.
    #[arg(long, env, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub database_acquire_timeout: u64,

    /// Prepared statements that a connection keeps. Set 0 behind a pooler that shares connections
    /// between transactions.
    #[arg(long, env, default_value_t = 500)]
    pub database_statement_cache: usize,
}

impl DatabaseConfig {
    /// Returns how to connect to the database.
    pub fn options(&self) -> Result<DatabaseOptions, ConfigError> {
        let remedy = "Set it to postgres://tenantry_app:PASSWORD@HOST/DATABASE.";
        let url = required("DATABASE_URL", self.database_url.as_deref(), remedy)?;
        let parse = |variable, url: &Option<String>| {
            url.as_deref().map(|url| parse_database_url(variable, url)).transpose()
        };
        let listen = parse("DATABASE_LISTEN_URL", &self.database_listen_url)?;
        let connect = parse_database_url("DATABASE_URL", url)?;
        let system = parse("SYSTEM_DATABASE_URL", &self.system_database_url)?;
        let replica = parse("DATABASE_REPLICA_URL", &self.database_replica_url)?;
        // The self-check of one role says nothing about another.
        if replica.as_ref().is_some_and(|there| there.user() != connect.user()) {
            return Err(ConfigError::new(
                "DATABASE_REPLICA_URL must name the same role as DATABASE_URL",
            ));
        }
        let dedicated = databases("DATABASES", self.databases.as_deref().unwrap_or_default())?;
        // For the same reason as the replica.
        for NamedDatabase { name, connect: there, .. } in &dedicated {
            if there.user() != connect.user() {
                return Err(ConfigError(format!(
                    "DATABASES: {name} must name the same role as DATABASE_URL"
                )));
            }
        }
        let dedicated =
            dedicated.into_iter().map(|database| (database.name, database.connect)).collect();
        Ok(DatabaseOptions { system, listen, replica, dedicated, ..self.with_connect(connect) })
    }

    /// Returns these settings with another address.
    pub fn with_connect(&self, connect: ConnectOptions) -> DatabaseOptions {
        DatabaseOptions {
            connect,
            system: None,
            listen: None,
            replica: None,
            dedicated: Vec::new(),
            max_connections: self
                .database_max_connections
                .map_or_else(default_connections, usize::from),
            acquire_timeout: Duration::from_secs(self.database_acquire_timeout),
            statement_cache: self.database_statement_cache,
        }
    }
}

/// Three connections for each processor. Requests beyond two or three for each processor of the
/// database wait for each other inside PostgreSQL. The server does not know the database's
/// processors, and assumes as many as it has itself.
fn default_connections() -> usize {
    (3 * available_parallelism().map_or(1, usize::from)).clamp(6, 48)
}

/// Parses the address of a PostgreSQL database.
///
/// # Errors
///
/// Names the variable, and never repeats its value, which may hold a password.
pub fn parse_database_url(variable: &str, url: &str) -> Result<ConnectOptions, ConfigError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(ConfigError(format!(
            "{variable} is not a PostgreSQL address: it must begin with postgres://"
        )));
    }
    ConnectOptions::from_str(url)
        .map_err(|error| ConfigError(format!("{variable} is not a PostgreSQL address: {error}")))
}

/// Parses a size. A size of 0 would refuse every request.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(size) => Ok(size),
        Err(_) => Err("must be a whole number".to_owned()),
    }
}

/// Parses an origin as browsers send it: scheme, host and port only.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let text = text.trim();
    let plain = url::Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text);
    let value = HeaderValue::from_str(text).ok().filter(|_| plain);
    value.ok_or_else(|| "must be an origin, for example https://app.example.com".to_owned())
}

/// Parses a network, or one address, with or without white space around it.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    let network = text.parse().or_else(|_| address());
    network.map_err(|_| "must be a network, for example 10.0.0.0/8, or an address".to_owned())
}

/// How requests are served.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Requests and limits")]
pub(crate) struct HttpConfig {
    #[command(flatten)]
    pub schema: SchemaConfig,

    /// Origins whose pages may call the API, as scheme, host and port, separated by commas.
    #[arg(long, env, value_delimiter = ',', value_parser = origin)]
    pub cors_origins: Vec<HeaderValue>,

    /// A manifest of trusted documents. The server then executes no other documents.
    #[arg(long, env)]
    pub trusted_documents: Option<PathBuf>,

    /// Networks of proxies whose X-Forwarded-For is trusted, for example 10.0.0.0/8, separated by
    /// commas. Without that header, their Forwarded is. A proxy that sends only Forwarded must
    /// remove X-Forwarded-For from requests.
    #[arg(long, env, value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,

    /// Seconds that a request may take, including the commit of its changes.
    #[arg(long, env, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub request_timeout: u64,

    /// Seconds that a stopping server waits for requests in progress.
    #[arg(long, env, default_value_t = 30)]
    pub shutdown_grace: u64,

    /// Open client connections. Above this number the server closes those that have been idle the
    /// longest.
    #[arg(long, env, default_value_t = 10_000, value_parser = at_least_one)]
    pub max_client_connections: usize,

    #[command(flatten)]
    pub clients: ClientsConfig,

    /// Seconds within which a new connection must send the headers of its first request.
    #[arg(long, env, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub header_timeout: u64,

    /// Seconds after which an idle connection is closed. Set it higher than the idle timeout of a
    /// proxy in front.
    #[arg(long, env, default_value_t = 75, value_parser = clap::value_parser!(u64).range(1..))]
    pub idle_timeout: u64,

    /// Largest size of a request body, in bytes.
    #[arg(long, env, default_value_t = 1024 * 1024, value_parser = at_least_one)]
    pub max_body_bytes: usize,

    /// Operations in a batch.
    #[arg(long, env, default_value_t = 10, value_parser = at_least_one)]
    pub max_batch: usize,

    /// Requests of one organization that wait while half of DATABASE_MAX_CONNECTIONS run its
    /// requests. Further requests are refused.
    #[arg(long, env, default_value_t = 256)]
    pub max_waiting: usize,

    /// Operations per minute and user. Expensive operations count more than once.
    #[arg(long, env, default_value = "12000")]
    pub max_operations: NonZeroU32,

    /// Operations per minute and client address, which many users may share.
    #[arg(long, env, default_value = "120000")]
    pub max_operations_by_address: NonZeroU32,

    /// Attempts per minute and user to create or change organizations, whose slugs could be
    /// guessed, and to create, send, preview and answer invitations.
    #[arg(long, env, default_value = "60")]
    pub max_attempts: NonZeroU32,

    /// The same attempts per minute and client address, which many users may share. Invalid tokens
    /// count too.
    #[arg(long, env, default_value = "300")]
    pub max_attempts_by_address: NonZeroU32,

    /// Nested levels of fields in a document.
    #[arg(long, env, default_value_t = 12, value_parser = at_least_one)]
    pub max_depth: usize,

    /// Nested levels of fields in introspection.
    #[arg(long, env, default_value_t = 20, value_parser = at_least_one)]
    pub max_introspection_depth: usize,

    /// Fields in a document. A field counts as often as the pages around it may repeat it.
    #[arg(long, env, default_value_t = 10_000, value_parser = at_least_one)]
    pub max_complexity: usize,

    /// Aliases in a document.
    #[arg(long, env, default_value_t = 30, value_parser = at_least_one)]
    pub max_aliases: usize,

    /// Root fields of a mutation.
    #[arg(long, env, default_value_t = 10, value_parser = at_least_one)]
    pub max_root_mutations: usize,

    /// SQL statements per request, all operations of a batch together. A request that needs more is
    /// rolled back.
    #[arg(long, env, default_value_t = 300, value_parser = clap::value_parser!(u32).range(20..))]
    pub max_statements: u32,

    /// Bytes that a request may read from the database and return in long texts, all operations of
    /// a batch together.
    #[arg(
        long,
        env,
        default_value_t = 4 * 1024 * 1024,
        value_parser = clap::value_parser!(u64).range(64 * 1024..)
    )]
    pub max_response_bytes: u64,

    /// Lexical tokens in a document.
    #[arg(long, env, default_value_t = 5_000, value_parser = at_least_one)]
    pub max_tokens: usize,
}

impl HttpConfig {
    /// Returns the limits on a document.
    pub fn limits(&self) -> Limits {
        Limits {
            suggestions: self.schema.introspection != Introspection::Never,
            tokens: self.max_tokens,
            depth: self.max_depth,
            introspection_depth: self.max_introspection_depth,
            complexity: self.max_complexity,
            aliases: self.max_aliases,
            root_mutations: self.max_root_mutations,
        }
    }

    /// Returns the budget of a request.
    pub fn budget(&self) -> Budget {
        Budget::new(Cost { statements: self.max_statements, bytes: self.max_response_bytes })
    }
}

/// The addresses on which a server listens.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Addresses")]
pub(crate) struct ListenConfig {
    /// Address and port for clients.
    #[arg(long, env, default_value = "127.0.0.1:4000")]
    pub listen_addr: SocketAddr,

    /// Address and port for operators only: /metrics, /readyz, /healthz. Without it the server
    /// exposes no metrics.
    #[arg(long, env)]
    pub admin_addr: Option<SocketAddr>,
}
