//! Settings of the tokens that callers present. No error text repeats a secret.
#![expect(clippy::doc_markdown, reason = "the comments are the text of --help")]

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{ConfigError, secret_rotation::secrets};
use crate::{
    auth::{Algorithm, Claims, JwksOptions, Verifier},
    clock::Clock,
};

/// How an e-mail address counts as verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EmailVerified {
    /// By the token's claim `email_verified`.
    Claim,
    /// Always: the issuer verifies every address.
    Trusted,
}

/// The algorithms of an issuer that publishes its keys.
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

/// Whether an address points to this machine.
#[must_use]
pub fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// The tokens that callers present.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tokens")]
pub struct JwtConfig {
    /// The shared secret of HS256 tokens, at least 32 bytes. During a rotation NEW,OLD: the first
    /// signs, all verify.
    #[arg(long, env = "JWT_SECRET", value_name = "JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<String>,

    /// The address of the issuer's key set, for tokens signed with RS256, ES256 or EdDSA. Replaces
    /// JWT_SECRET.
    #[arg(
        long,
        env = "JWT_JWKS_URL",
        value_name = "JWT_JWKS_URL",
        hide_env_values = true,
        conflicts_with = "jwt_secret"
    )]
    pub jwt_jwks_url: Option<String>,

    /// The algorithms accepted for tokens of JWT_JWKS_URL.
    #[arg(
        long,
        env = "JWT_ALGORITHMS",
        value_name = "JWT_ALGORITHMS",
        value_delimiter = ',',
        default_value = "RS256,ES256,EdDSA"
    )]
    pub jwt_algorithms: Vec<IssuerAlgorithm>,

    /// Least number of seconds between two fetches of the issuer's keys, even if tokens name
    /// unknown keys.
    #[arg(long, env = "JWT_JWKS_COOLDOWN", value_name = "JWT_JWKS_COOLDOWN", default_value_t = 10)]
    pub jwt_jwks_cooldown: u64,

    /// Seconds after which the issuer's keys are fetched again.
    #[arg(long, env = "JWT_JWKS_MAX_AGE", value_name = "JWT_JWKS_MAX_AGE", default_value_t = 600)]
    pub jwt_jwks_max_age: u64,

    /// The issuer that tokens must name in `iss`; `any` accepts every issuer. Required with
    /// JWT_JWKS_URL.
    #[arg(long, env = "JWT_ISSUER", value_name = "JWT_ISSUER")]
    pub jwt_issuer: Option<String>,

    /// The audience that tokens must name in `aud`; `any` accepts every audience. Required with
    /// JWT_JWKS_URL.
    #[arg(long, env = "JWT_AUDIENCE", value_name = "JWT_AUDIENCE")]
    pub jwt_audience: Option<String>,

    /// The claim that holds the e-mail address.
    #[arg(long, env = "JWT_EMAIL_CLAIM", value_name = "JWT_EMAIL_CLAIM", default_value = "email")]
    pub jwt_email_claim: String,

    /// When an e-mail address counts as verified: by the claim email_verified, or always (trusted),
    /// which requires JWT_ISSUER.
    #[arg(
        long,
        env = "JWT_EMAIL_VERIFIED",
        value_name = "JWT_EMAIL_VERIFIED",
        default_value = "claim"
    )]
    pub jwt_email_verified: EmailVerified,

    /// The claim that holds the organization's id or slug. Dots separate the keys of nested
    /// objects.
    #[arg(long, env = "JWT_ORG_CLAIM", value_name = "JWT_ORG_CLAIM", default_value = "org")]
    pub jwt_org_claim: String,
}

impl JwtConfig {
    /// Returns the verifier of these tokens.
    ///
    /// # Errors
    ///
    /// If neither a secret nor a key set is configured, if a secret is too short, or if tokens of
    /// any issuer or audience would be trusted without the explicit value `any`.
    pub fn verifier(&self, clock: Clock) -> Result<Verifier, ConfigError> {
        if self.jwt_email_verified == EmailVerified::Trusted && self.issuer().is_none() {
            return Err(ConfigError(
                "JWT_EMAIL_VERIFIED=trusted requires JWT_ISSUER, because it trusts every address of that issuer."
                    .to_owned(),
            ));
        }
        let Some(url) = &self.jwt_jwks_url else {
            return Ok(Verifier::with_secrets(&self.secrets()?, self.claims(), clock));
        };
        let url = key_set(url)?;
        for (name, value) in
            [("JWT_ISSUER", &self.jwt_issuer), ("JWT_AUDIENCE", &self.jwt_audience)]
        {
            if set(value.as_ref()).is_none() {
                return Err(ConfigError(format!(
                    "{name} is not set. JWT_JWKS_URL requires it, because the same keys also sign tokens for other \
                     services. Set {name}={ANY} to accept those."
                )));
            }
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

    /// Returns the shared secrets, at least one. The first signs, all verify.
    ///
    /// # Errors
    ///
    /// If none is set, or one is too short.
    pub fn secrets(&self) -> Result<Vec<&str>, ConfigError> {
        let text = self.jwt_secret.as_deref().ok_or_else(|| {
            ConfigError(
                "JWT_SECRET is not set. Set it to the secret that signs your tokens, or set JWT_JWKS_URL to the \
                 address of your issuer's keys."
                    .to_owned(),
            )
        })?;
        secrets("JWT_SECRET", text)
    }

    /// Returns the secret that signs.
    ///
    /// # Errors
    ///
    /// As [`secrets`](Self::secrets).
    pub fn secret(&self) -> Result<&str, ConfigError> {
        // `secrets` returns at least one.
        Ok(self.secrets()?.first().copied().unwrap_or_default())
    }

    /// The issuer that tokens must name. `None` accepts any.
    #[must_use]
    pub fn issuer(&self) -> Option<String> {
        unless_any(self.jwt_issuer.as_ref())
    }

    /// The audience that tokens must name. `None` accepts any.
    #[must_use]
    pub fn audience(&self) -> Option<String> {
        unless_any(self.jwt_audience.as_ref())
    }

    fn claims(&self) -> Claims {
        Claims {
            issuer: self.issuer(),
            audience: self.audience(),
            email: self.jwt_email_claim.clone(),
            email_trusted: self.jwt_email_verified == EmailVerified::Trusted,
            organization: self.jwt_org_claim.clone(),
        }
    }
}

/// The value of JWT_ISSUER and JWT_AUDIENCE that accepts all tokens of the key set.
const ANY: &str = "any";

fn unless_any(text: Option<&String>) -> Option<String> {
    set(text).filter(|text| text.trim() != ANY)
}

/// Parses the address of a key set. Errors do not repeat the value, which may hold a secret.
fn key_set(text: &str) -> Result<url::Url, ConfigError> {
    let url = url::Url::parse(text.trim())
        .map_err(|error| ConfigError(format!("JWT_JWKS_URL is not an address: {error}")))?;
    if url.scheme() != "https" && !is_loopback(&url) {
        return Err(ConfigError(
            "JWT_JWKS_URL must begin with https://, because its keys decide who callers are."
                .to_owned(),
        ));
    }
    Ok(url)
}

/// Treats an empty value as unset.
fn set(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty()).cloned()
}
