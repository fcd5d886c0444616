//! Every setting: an environment variable that is also a flag, its default and what it means, in one place.
//!
//! A wrong value ends the program with one line that names it.
#![expect(clippy::doc_markdown, reason = "the comments are the text of --help")]

use std::{net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use sqlx::postgres::PgConnectOptions;

use crate::{
    auth::{Algorithm, Claims, JwksOptions, Verifier},
    clock::Clock,
    graphql::document::Limits,
    tenancy::{DatabaseOptions, Environment, InvitationKey, Rules},
};

/// RFC 7518, section 3.2: a key for HS256 has at least the size of its hash.
const MIN_SECRET_BYTES: usize = 32;

/// A setting that the program cannot start with; the text names it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// The database that servers use.
#[derive(Args, Clone, Debug)]
pub struct DatabaseConfig {
    /// PostgreSQL as the role `tenantry_app`: postgres://tenantry_app:PASSWORD@HOST/DATABASE
    #[arg(long, env = "DATABASE_URL", value_name = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// The most connections that this server opens.
    #[arg(long, env = "DATABASE_MAX_CONNECTIONS", value_name = "DATABASE_MAX_CONNECTIONS", default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..))]
    pub database_max_connections: u16,

    /// Seconds to wait for a free connection before answering 503.
    #[arg(long, env = "DATABASE_ACQUIRE_TIMEOUT", value_name = "DATABASE_ACQUIRE_TIMEOUT", default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub database_acquire_timeout: u64,

    /// Prepared statements kept by a connection; 0 behind a pooler that shares connections between transactions.
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
        Ok(self.with_connect(parse_database_url("DATABASE_URL", url)?))
    }

    /// These settings for a database that is reached in another way.
    #[must_use]
    pub fn with_connect(&self, connect: PgConnectOptions) -> DatabaseOptions {
        DatabaseOptions {
            connect: connect
                .application_name("tenantry")
                .statement_cache_capacity(self.database_statement_cache),
            max_connections: self.database_max_connections.into(),
            acquire_timeout: Duration::from_secs(self.database_acquire_timeout),
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

/// Whose word counts for an e-mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EmailVerified {
    /// The token's `email_verified` claim.
    Claim,
    /// Every address of this issuer is verified.
    Trusted,
}

/// The algorithms of an issuer with keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IssuerAlgorithm {
    /// RSA, PKCS #1.
    #[value(name = "RS256")]
    Rs256,
    /// ECDSA on P-256.
    #[value(name = "ES256")]
    Es256,
    /// Ed25519.
    #[value(name = "EdDSA")]
    EdDsa,
}

impl From<IssuerAlgorithm> for Algorithm {
    fn from(name: IssuerAlgorithm) -> Self {
        match name {
            IssuerAlgorithm::Rs256 => Self::RS256,
            IssuerAlgorithm::Es256 => Self::ES256,
            IssuerAlgorithm::EdDsa => Self::EdDSA,
        }
    }
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// The tokens that callers show.
#[derive(Args, Clone, Debug)]
pub struct JwtConfig {
    /// The shared secret of HS256 tokens: at least 32 bytes.
    #[arg(long, env = "JWT_SECRET", value_name = "JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<String>,

    /// The address of the issuer's key set, for tokens signed with RS256, ES256 or EdDSA. Instead of JWT_SECRET.
    #[arg(long, env = "JWT_JWKS_URL", value_name = "JWT_JWKS_URL", conflicts_with = "jwt_secret")]
    pub jwt_jwks_url: Option<url::Url>,

    /// The algorithms that tokens of JWT_JWKS_URL may be signed with.
    #[arg(
        long,
        env = "JWT_ALGORITHMS",
        value_name = "JWT_ALGORITHMS",
        value_delimiter = ',',
        default_value = "RS256,ES256,EdDSA"
    )]
    pub jwt_algorithms: Vec<IssuerAlgorithm>,

    /// Seconds between two requests for the issuer's keys, however many tokens name unknown ones.
    #[arg(long, env = "JWT_JWKS_COOLDOWN", value_name = "JWT_JWKS_COOLDOWN", default_value_t = 10)]
    pub jwt_jwks_cooldown: u64,

    /// Seconds after which the issuer's keys are asked for again.
    #[arg(long, env = "JWT_JWKS_MAX_AGE", value_name = "JWT_JWKS_MAX_AGE", default_value_t = 600)]
    pub jwt_jwks_max_age: u64,

    /// The issuer that tokens must name in `iss`.
    #[arg(long, env = "JWT_ISSUER", value_name = "JWT_ISSUER")]
    pub jwt_issuer: Option<String>,

    /// The audience that tokens must name in `aud`.
    #[arg(long, env = "JWT_AUDIENCE", value_name = "JWT_AUDIENCE")]
    pub jwt_audience: Option<String>,

    /// The claim with the e-mail address.
    #[arg(long, env = "JWT_EMAIL_CLAIM", value_name = "JWT_EMAIL_CLAIM", default_value = "email")]
    pub jwt_email_claim: String,

    /// Whether an e-mail address is verified: by the claim `email_verified`, or always.
    #[arg(
        long,
        env = "JWT_EMAIL_VERIFIED",
        value_name = "JWT_EMAIL_VERIFIED",
        default_value = "claim"
    )]
    pub jwt_email_verified: EmailVerified,

    /// The claim with the organization's id or slug; dots lead into objects.
    #[arg(long, env = "JWT_ORG_CLAIM", value_name = "JWT_ORG_CLAIM", default_value = "org")]
    pub jwt_org_claim: String,
}

impl JwtConfig {
    /// The verifier of these tokens.
    ///
    /// # Errors
    ///
    /// Without a secret or an issuer, or with a secret that is too short.
    pub fn verifier(&self, clock: Clock) -> Result<Verifier, ConfigError> {
        let Some(url) = self.jwt_jwks_url.clone() else {
            return Ok(Verifier::with_secret(self.secret()?, self.claims(), clock));
        };
        if url.scheme() != "https" && !is_loopback(&url) {
            return Err(ConfigError(
                "JWT_JWKS_URL must begin with https://: whoever can change the keys on their way can be anybody".to_owned(),
            ));
        }
        let options = JwksOptions {
            url,
            algorithms: self.jwt_algorithms.iter().map(|name| (*name).into()).collect(),
            cooldown: Duration::from_secs(self.jwt_jwks_cooldown),
            max_age: Duration::from_secs(self.jwt_jwks_max_age),
        };
        Verifier::with_issuer(options, self.claims(), clock)
            .map_err(|error| ConfigError(format!("JWT_JWKS_URL: {error}")))
    }

    /// The shared secret.
    ///
    /// # Errors
    ///
    /// Without one, or with one that is too short.
    pub fn secret(&self) -> Result<&str, ConfigError> {
        match self.jwt_secret.as_deref() {
            None => Err(ConfigError(
                "JWT_SECRET is not set: it must be the secret that your tokens are signed with, or else JWT_JWKS_URL the \
                 address of their issuer's keys"
                    .to_owned(),
            )),
            Some(secret) if secret.len() < MIN_SECRET_BYTES => Err(ConfigError(format!(
                "JWT_SECRET has {} bytes: it must have at least {MIN_SECRET_BYTES}, for example from openssl rand -hex 32",
                secret.len()
            ))),
            Some(secret) => Ok(secret),
        }
    }

    fn claims(&self) -> Claims {
        Claims {
            issuer: self.jwt_issuer.clone(),
            audience: self.jwt_audience.clone(),
            email: self.jwt_email_claim.clone(),
            email_trusted: self.jwt_email_verified == EmailVerified::Trusted,
            organization: self.jwt_org_claim.clone(),
        }
    }
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

/// How requests are served.
#[derive(Args, Clone, Debug)]
pub struct HttpConfig {
    /// Who may explore the schema.
    #[arg(
        long,
        env = "INTROSPECTION",
        value_name = "INTROSPECTION",
        default_value = "authenticated"
    )]
    pub introspection: Introspection,

    /// Networks of proxies whose X-Forwarded-For is believed, for example 10.0.0.0/8, separated by commas.
    #[arg(long, env = "TRUSTED_PROXIES", value_name = "TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<IpNet>,

    /// Seconds that a request may take until its changes are committed.
    #[arg(long, env = "REQUEST_TIMEOUT", value_name = "REQUEST_TIMEOUT", default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub request_timeout: u64,

    /// Bytes of a request's body.
    #[arg(long, env = "MAX_BODY_BYTES", value_name = "MAX_BODY_BYTES", default_value_t = 1024 * 1024)]
    pub max_body_bytes: usize,

    /// Operations in a batch.
    #[arg(long, env = "MAX_BATCH", value_name = "MAX_BATCH", default_value_t = 10)]
    pub max_batch: usize,

    /// Levels of fields in a document.
    #[arg(long, env = "MAX_DEPTH", value_name = "MAX_DEPTH", default_value_t = 12)]
    pub max_depth: usize,

    /// Levels of fields in introspection.
    #[arg(
        long,
        env = "MAX_INTROSPECTION_DEPTH",
        value_name = "MAX_INTROSPECTION_DEPTH",
        default_value_t = 20
    )]
    pub max_introspection_depth: usize,

    /// Fields in a document, each counted as often as the pages around it may repeat it.
    #[arg(long, env = "MAX_COMPLEXITY", value_name = "MAX_COMPLEXITY", default_value_t = 10_000)]
    pub max_complexity: usize,

    /// Aliases in a document.
    #[arg(long, env = "MAX_ALIASES", value_name = "MAX_ALIASES", default_value_t = 30)]
    pub max_aliases: usize,

    /// Root fields of a mutation.
    #[arg(
        long,
        env = "MAX_ROOT_MUTATIONS",
        value_name = "MAX_ROOT_MUTATIONS",
        default_value_t = 10
    )]
    pub max_root_mutations: usize,

    /// Lexical tokens of a document.
    #[arg(long, env = "MAX_TOKENS", value_name = "MAX_TOKENS", default_value_t = 5_000)]
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
}

/// Business rules.
#[derive(Args, Clone, Debug)]
pub struct RulesConfig {
    /// Days for which an organization keeps its plan after a payment failed.
    #[arg(
        long,
        env = "BILLING_GRACE_DAYS",
        value_name = "BILLING_GRACE_DAYS",
        default_value_t = 7
    )]
    pub billing_grace_days: u16,

    /// How many organizations a person may own before they can found no more.
    #[arg(
        long,
        env = "MAX_OWNED_ORGANIZATIONS",
        value_name = "MAX_OWNED_ORGANIZATIONS",
        default_value_t = 10
    )]
    pub max_owned_organizations: u32,

    /// Days for which an invitation can be accepted.
    #[arg(
        long,
        env = "INVITATION_DAYS",
        value_name = "INVITATION_DAYS",
        default_value_t = 7,
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub invitation_days: u16,

    /// The secret behind the links of invitations: at least 32 bytes. Derived from JWT_SECRET when not set.
    #[arg(long, env = "SECRET_KEY", value_name = "SECRET_KEY", hide_env_values = true)]
    pub secret_key: Option<String>,

    /// Where people reach your application; links of invitations begin with it.
    #[arg(
        long,
        env = "PUBLIC_URL",
        value_name = "PUBLIC_URL",
        default_value = "http://127.0.0.1:4000"
    )]
    pub public_url: url::Url,
}

impl RulesConfig {
    /// Time and rules for operations.
    ///
    /// # Errors
    ///
    /// When the secret key is too short, or there is nothing to derive one from.
    pub fn environment(&self, clock: Clock, jwt: &JwtConfig) -> Result<Environment, ConfigError> {
        let rules = Rules {
            billing_grace: chrono::Duration::days(self.billing_grace_days.into()),
            max_owned_organizations: self.max_owned_organizations,
            invitation_term: chrono::Duration::days(self.invitation_days.into()),
            invitation_key: InvitationKey(self.invitation_key(jwt)?),
            public_url: self.public_url.as_str().trim_end_matches('/').to_owned(),
        };
        Ok(Environment { clock, rules: Arc::new(rules) })
    }

    fn invitation_key(&self, jwt: &JwtConfig) -> Result<Vec<u8>, ConfigError> {
        match self.secret_key.as_deref() {
            Some(key) if key.len() < MIN_SECRET_BYTES => Err(ConfigError(format!(
                "SECRET_KEY has {} bytes: it must have at least {MIN_SECRET_BYTES}",
                key.len()
            ))),
            Some(key) => Ok(key.as_bytes().to_vec()),
            None if jwt.jwt_jwks_url.is_some() => Err(ConfigError(
                "SECRET_KEY is not set: with JWT_JWKS_URL it must be, for example from openssl rand -hex 32"
                    .to_owned(),
            )),
            // Prefixed, so that no signature over a token can ever be one over an invitation.
            None => Ok([b"invitations:", jwt.secret()?.as_bytes()].concat()),
        }
    }
}

/// What a log line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: a JSON object a line.
    Json,
}

/// The log.
#[derive(Args, Clone, Debug)]
pub struct LogConfig {
    /// What a log line looks like. RUST_LOG says what is logged, for example info,tenantry=debug
    #[arg(long, env = "LOG_FORMAT", value_name = "LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Where a server listens.
#[derive(Args, Clone, Debug)]
pub struct ListenConfig {
    /// Address and port to listen on.
    #[arg(long, env = "LISTEN_ADDR", value_name = "LISTEN_ADDR", default_value = "127.0.0.1:4000")]
    pub listen_addr: SocketAddr,
}
