//! Every setting: an environment variable that is also a flag, its default and what it means, in
//! one place.
//!
//! A wrong value ends the program with one line that names it.
#![expect(clippy::doc_markdown, reason = "the comments are the text of --help")]

mod billing;
mod business;
mod clients;
mod databases;
mod export;
mod jwt;
mod log;
mod mail;
mod secrets;

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, str::FromStr, time::Duration};

use axum::http::HeaderValue;
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use sqlx::postgres::PgConnectOptions;

pub use billing::{BillingConfig, BillingProvider};
pub use business::BusinessConfig;
pub use clients::ClientsConfig;
pub use databases::{NamedDatabase, databases, is_database_name};
pub use export::ExportConfig;
pub use jwt::{EmailVerified, IssuerAlgorithm, JwtConfig, is_loopback};
pub use log::{LogConfig, LogFormat};
pub use mail::MailConfig;

use crate::{
    graphql::Limits,
    tenancy::{Budget, Cost, DatabaseOptions},
};

/// A setting that the program cannot start with; the text names it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// The database that servers use.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub struct DatabaseConfig {
    /// PostgreSQL as the role `tenantry_app`: postgres://tenantry_app:PASSWORD@HOST/DATABASE
    #[arg(long, env = "DATABASE_URL", value_name = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// The same database as the role `tenantry_system`, for background work, webhooks and commands.
    /// Derived from DATABASE_URL when not set, for each of DATABASES always: the same address, and
    /// a password made from the one there.
    #[arg(
        long,
        env = "SYSTEM_DATABASE_URL",
        value_name = "SYSTEM_DATABASE_URL",
        hide_env_values = true
    )]
    pub system_database_url: Option<String>,

    /// PostgreSQL without a pooler between, for subscriptions, which listen on one connection;
    /// DATABASE_URL when not set.
    #[arg(
        long,
        env = "DATABASE_LISTEN_URL",
        value_name = "DATABASE_LISTEN_URL",
        hide_env_values = true
    )]
    pub database_listen_url: Option<String>,

    /// A standby of it, for queries whose clients say how stale an answer may be (Max-Staleness);
    /// in the same role.
    #[arg(
        long,
        env = "DATABASE_REPLICA_URL",
        value_name = "DATABASE_REPLICA_URL",
        hide_env_values = true
    )]
    pub database_replica_url: Option<String>,

    /// Databases of organizations' own, as NAME=URL, separated by white space; in the same role.
    #[arg(long, env = "DATABASES", value_name = "DATABASES", hide_env_values = true)]
    pub databases: Option<String>,

    /// The most connections for requests; up to 5 more are for work in the background, health and
    /// subscriptions. The same for each of DATABASES, and 4 more for all of these together.
    #[arg(long, env = "DATABASE_MAX_CONNECTIONS", value_name = "DATABASE_MAX_CONNECTIONS", default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..))]
    pub database_max_connections: u16,

    /// Seconds to wait for a free connection before answering 503.
    #[arg(long, env = "DATABASE_ACQUIRE_TIMEOUT", value_name = "DATABASE_ACQUIRE_TIMEOUT", default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub database_acquire_timeout: u64,

    /// Prepared statements kept by a connection; 0 behind a pooler that shares connections between
    /// transactions.
    #[arg(
        long,
        env = "DATABASE_STATEMENT_CACHE",
        value_name = "DATABASE_STATEMENT_CACHE",
        default_value_t = 500
    )]
    pub database_statement_cache: usize,
}

impl DatabaseConfig {
    /// How to reach the database.
    ///
    /// # Errors
    ///
    /// Without an address, or with one that is none.
    pub fn options(&self) -> Result<DatabaseOptions, ConfigError> {
        let url = self.database_url.as_deref().ok_or_else(|| {
            ConfigError(
                "DATABASE_URL is not set: it must be postgres://tenantry_app:PASSWORD@HOST/DATABASE"
                    .to_owned(),
            )
        })?;
        let listen = self.database_listen_url.as_deref();
        let listen =
            listen.map(|url| parse_database_url("DATABASE_LISTEN_URL", url)).transpose()?;
        let connect = parse_database_url("DATABASE_URL", url)?;
        let system = self.system_database_url.as_deref();
        let system =
            system.map(|url| parse_database_url("SYSTEM_DATABASE_URL", url)).transpose()?;
        let replica = self.database_replica_url.as_deref();
        let replica =
            replica.map(|url| parse_database_url("DATABASE_REPLICA_URL", url)).transpose()?;
        // What the self-check finds of one role says nothing of another.
        if replica.as_ref().is_some_and(|there| there.get_username() != connect.get_username()) {
            return Err(ConfigError(
                "DATABASE_REPLICA_URL must name the same role as DATABASE_URL".to_owned(),
            ));
        }
        let dedicated = databases("DATABASES", self.databases.as_deref().unwrap_or_default())?;
        // As with the replica.
        for NamedDatabase { name, connect: there, .. } in &dedicated {
            if there.get_username() != connect.get_username() {
                return Err(ConfigError(format!(
                    "DATABASES: {name} must name the same role as DATABASE_URL"
                )));
            }
        }
        let dedicated = dedicated.into_iter().map(|database| (database.name, database.connect));
        let dedicated = dedicated.collect();
        Ok(DatabaseOptions { system, listen, replica, dedicated, ..self.with_connect(connect) })
    }

    /// These settings for a database that is reached in another way.
    #[must_use]
    pub fn with_connect(&self, connect: PgConnectOptions) -> DatabaseOptions {
        DatabaseOptions {
            connect,
            system: None,
            listen: None,
            replica: None,
            dedicated: Vec::new(),
            max_connections: self.database_max_connections.into(),
            acquire_timeout: Duration::from_secs(self.database_acquire_timeout),
            statement_cache: self.database_statement_cache,
        }
    }
}

/// The parts of a PostgreSQL address.
///
/// # Errors
///
/// Names the variable, and never its value, which may hold a password.
pub fn parse_database_url(variable: &str, url: &str) -> Result<PgConnectOptions, ConfigError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(ConfigError(format!(
            "{variable} is not a PostgreSQL address: it must begin with postgres://"
        )));
    }
    PgConnectOptions::from_str(url)
        .map_err(|error| ConfigError(format!("{variable} is not a PostgreSQL address: {error}")))
}

/// Who may explore the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Introspection {
    /// Everybody, without a token.
    Always,
    /// Whoever has a token.
    Authenticated,
    /// Nobody.
    Never,
}

/// A size of nothing would refuse everything.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(size) => Ok(size),
        Err(_) => Err("must be a whole number".to_owned()),
    }
}

/// An origin: scheme, host and port, and nothing else, as browsers send it.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let text = text.trim();
    let plain = url::Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text);
    let value = HeaderValue::from_str(text).ok().filter(|_| plain);
    value.ok_or_else(|| "must be an origin, for example https://app.example.com".to_owned())
}

/// A network, with or without white space around it.
fn network(text: &str) -> Result<IpNet, String> {
    text.trim().parse().map_err(|_| "must be a network, for example 10.0.0.0/8".to_owned())
}

/// How requests are served.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Requests and limits")]
pub struct HttpConfig {
    /// Who may explore the schema.
    #[arg(
        long,
        env = "INTROSPECTION",
        value_name = "INTROSPECTION",
        default_value = "authenticated"
    )]
    pub introspection: Introspection,

    /// Origins whose pages may use the API, as scheme and host, separated by commas.
    #[arg(long, env = "CORS_ORIGINS", value_name = "CORS_ORIGINS", value_delimiter = ',', value_parser = origin)]
    pub cors_origins: Vec<HeaderValue>,

    /// A manifest of documents; then no others are executed.
    #[arg(long, env = "TRUSTED_DOCUMENTS", value_name = "TRUSTED_DOCUMENTS")]
    pub trusted_documents: Option<PathBuf>,

    /// Networks of proxies whose X-Forwarded-For is believed, for example 10.0.0.0/8, separated by
    /// commas.
    #[arg(long, env = "TRUSTED_PROXIES", value_name = "TRUSTED_PROXIES", value_delimiter = ',',
        value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,

    /// Seconds that a request may take until its changes are committed.
    #[arg(long, env = "REQUEST_TIMEOUT", value_name = "REQUEST_TIMEOUT", default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub request_timeout: u64,

    /// Seconds for which a stopping server waits for its clients.
    #[arg(long, env = "SHUTDOWN_GRACE", value_name = "SHUTDOWN_GRACE", default_value_t = 30)]
    pub shutdown_grace: u64,

    /// Connections of clients at the same time; when there are more, those that were idle the
    /// longest are closed.
    #[arg(long, env = "MAX_CLIENT_CONNECTIONS", value_name = "MAX_CLIENT_CONNECTIONS", default_value_t = 10_000, value_parser = at_least_one)]
    pub max_client_connections: usize,

    #[command(flatten)]
    pub clients: ClientsConfig,

    /// Seconds in which the headers of a connection's first request must come.
    #[arg(long, env = "HEADER_TIMEOUT", value_name = "HEADER_TIMEOUT", default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub header_timeout: u64,

    /// Seconds after which a connection without requests is closed; more than a proxy in front
    /// keeps it.
    #[arg(long, env = "IDLE_TIMEOUT", value_name = "IDLE_TIMEOUT", default_value_t = 75,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub idle_timeout: u64,

    /// Bytes of a request's body.
    #[arg(long, env = "MAX_BODY_BYTES", value_name = "MAX_BODY_BYTES", default_value_t = 1024 * 1024, value_parser = at_least_one)]
    pub max_body_bytes: usize,

    /// Operations in a batch.
    #[arg(long, env = "MAX_BATCH", value_name = "MAX_BATCH", default_value_t = 10, value_parser = at_least_one)]
    pub max_batch: usize,

    /// Requests of one organization that wait while as many as half of DATABASE_MAX_CONNECTIONS
    /// run; more are refused.
    #[arg(long, env = "MAX_WAITING", value_name = "MAX_WAITING", default_value_t = 256)]
    pub max_waiting: usize,

    /// Operations a minute that a user may send; larger ones count more.
    #[arg(long, env = "MAX_OPERATIONS", value_name = "MAX_OPERATIONS", default_value = "12000")]
    pub max_operations: NonZeroU32,

    /// The same for an address, which many users may share.
    #[arg(
        long,
        env = "MAX_OPERATIONS_BY_ADDRESS",
        value_name = "MAX_OPERATIONS_BY_ADDRESS",
        default_value = "120000"
    )]
    pub max_operations_by_address: NonZeroU32,

    /// Attempts a minute that a user has at creating and changing organizations, whose slugs could
    /// be guessed, and at making, sending and accepting invitations.
    #[arg(long, env = "MAX_ATTEMPTS", value_name = "MAX_ATTEMPTS", default_value = "60")]
    pub max_attempts: NonZeroU32,

    /// The same for an address, which many people may share; also tokens that are not good.
    #[arg(
        long,
        env = "MAX_ATTEMPTS_BY_ADDRESS",
        value_name = "MAX_ATTEMPTS_BY_ADDRESS",
        default_value = "300"
    )]
    pub max_attempts_by_address: NonZeroU32,

    /// Levels of fields in a document.
    #[arg(long, env = "MAX_DEPTH", value_name = "MAX_DEPTH", default_value_t = 12, value_parser = at_least_one)]
    pub max_depth: usize,

    /// Levels of fields in introspection.
    #[arg(
        long,
        env = "MAX_INTROSPECTION_DEPTH",
        value_name = "MAX_INTROSPECTION_DEPTH",
        default_value_t = 20, value_parser = at_least_one
    )]
    pub max_introspection_depth: usize,

    /// Fields in a document, each counted as often as the pages around it may repeat it.
    #[arg(long, env = "MAX_COMPLEXITY", value_name = "MAX_COMPLEXITY", default_value_t = 10_000, value_parser = at_least_one)]
    pub max_complexity: usize,

    /// Aliases in a document.
    #[arg(long, env = "MAX_ALIASES", value_name = "MAX_ALIASES", default_value_t = 30, value_parser = at_least_one)]
    pub max_aliases: usize,

    /// Root fields of a mutation.
    #[arg(
        long,
        env = "MAX_ROOT_MUTATIONS",
        value_name = "MAX_ROOT_MUTATIONS",
        default_value_t = 10, value_parser = at_least_one
    )]
    pub max_root_mutations: usize,

    /// SQL statements of a request, all operations of a batch together; what needs more is rolled
    /// back.
    #[arg(long, env = "MAX_STATEMENTS", value_name = "MAX_STATEMENTS", default_value_t = 300,
        value_parser = clap::value_parser!(u32).range(20..))]
    pub max_statements: u32,

    /// Bytes that a request may read from the database and answer in long texts, all operations of
    /// a batch together.
    #[arg(long, env = "MAX_RESPONSE_BYTES", value_name = "MAX_RESPONSE_BYTES", default_value_t = 4 * 1024 * 1024,
        value_parser = clap::value_parser!(u64).range(64 * 1024..))]
    pub max_response_bytes: u64,

    /// Lexical tokens of a document.
    #[arg(long, env = "MAX_TOKENS", value_name = "MAX_TOKENS", default_value_t = 5_000, value_parser = at_least_one)]
    pub max_tokens: usize,
}

impl HttpConfig {
    /// The limits on a document.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            tokens: self.max_tokens,
            depth: self.max_depth,
            introspection_depth: self.max_introspection_depth,
            complexity: self.max_complexity,
            aliases: self.max_aliases,
            root_mutations: self.max_root_mutations,
        }
    }

    /// What a request may cost.
    #[must_use]
    pub fn budget(&self) -> Budget {
        Budget::new(Cost { statements: self.max_statements, bytes: self.max_response_bytes })
    }
}

/// Where a server listens.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Addresses")]
pub struct ListenConfig {
    /// Address and port to listen on.
    #[arg(long, env = "LISTEN_ADDR", value_name = "LISTEN_ADDR", default_value = "127.0.0.1:4000")]
    pub listen_addr: SocketAddr,

    /// Address and port for operators alone: /metrics, /readyz, /healthz. Without it there are no
    /// metrics.
    #[arg(long, env = "ADMIN_ADDR", value_name = "ADMIN_ADDR")]
    pub admin_addr: Option<SocketAddr>,
}
