//! Settings of the tokens that callers show.
#![expect(clippy::doc_markdown, reason = "the comments are the text of --help")]

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{ConfigError, secrets::secrets};
use crate::{
    auth::{Algorithm, Claims, JwksOptions, Verifier},
    clock::Clock,
};

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

/// Whether an address leads to this machine only.
#[must_use]
pub fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// The tokens that callers show.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tokens")]
pub struct JwtConfig {
    /// The shared secret of HS256 tokens: at least 32 bytes. While it is rotated NEW,OLD: the first
    /// signs, all verify.
    #[arg(long, env = "JWT_SECRET", value_name = "JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<String>,

    /// The address of the issuer's key set, for tokens signed with RS256, ES256 or EdDSA. Instead
    /// of JWT_SECRET.
    #[arg(
        long,
        env = "JWT_JWKS_URL",
        value_name = "JWT_JWKS_URL",
        hide_env_values = true,
        conflicts_with = "jwt_secret"
    )]
    pub jwt_jwks_url: Option<String>,

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

    /// The issuer that tokens must name in `iss`; `any` accepts every issuer. Required with
    /// JWT_JWKS_URL.
    #[arg(long, env = "JWT_ISSUER", value_name = "JWT_ISSUER")]
    pub jwt_issuer: Option<String>,

    /// The audience that tokens must name in `aud`; `any` accepts every audience. Required with
    /// JWT_JWKS_URL.
    #[arg(long, env = "JWT_AUDIENCE", value_name = "JWT_AUDIENCE")]
    pub jwt_audience: Option<String>,

    /// The claim with the e-mail address.
    #[arg(long, env = "JWT_EMAIL_CLAIM", value_name = "JWT_EMAIL_CLAIM", default_value = "email")]
    pub jwt_email_claim: String,

    /// Whether an e-mail address is verified: by the claim `email_verified`, or always, which needs
    /// JWT_ISSUER.
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
    /// Without a secret or a key set, with a secret that is too short, or where tokens of any
    /// issuer would be trusted without saying so.
    pub fn verifier(&self, clock: Clock) -> Result<Verifier, ConfigError> {
        if self.jwt_email_verified == EmailVerified::Trusted && self.issuer().is_none() {
            return Err(ConfigError(
                "JWT_EMAIL_VERIFIED=trusted needs JWT_ISSUER: it trusts every address of that issuer"
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
                    "{name} is not set: with JWT_JWKS_URL it must be, because the same keys sign tokens for other services; \
                     {name}={ANY} accepts these"
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

    /// The shared secrets, at least one: the first signs, all verify.
    ///
    /// # Errors
    ///
    /// Without one, or with one that is too short.
    pub fn secrets(&self) -> Result<Vec<&str>, ConfigError> {
        let text = self.jwt_secret.as_deref().ok_or_else(|| {
            ConfigError(
                "JWT_SECRET is not set: it must be the secret that your tokens are signed with, or else JWT_JWKS_URL the \
                 address of their issuer's keys"
                    .to_owned(),
            )
        })?;
        secrets("JWT_SECRET", text)
    }

    /// The secret that signs.
    ///
    /// # Errors
    ///
    /// As [`secrets`](Self::secrets).
    pub fn secret(&self) -> Result<&str, ConfigError> {
        // There is at least one.
        Ok(self.secrets()?.first().copied().unwrap_or_default())
    }

    /// The issuer that tokens must name; `None` where any is accepted.
    #[must_use]
    pub fn issuer(&self) -> Option<String> {
        unless_any(self.jwt_issuer.as_ref())
    }

    /// The audience that tokens must name; `None` where any is accepted.
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

/// The value of JWT_ISSUER and JWT_AUDIENCE that accepts every token of the key set.
const ANY: &str = "any";

fn unless_any(text: Option<&String>) -> Option<String> {
    set(text).filter(|text| text.trim() != ANY)
}

/// The address of a key set. Its value is not repeated, which may hold a secret.
fn key_set(text: &str) -> Result<url::Url, ConfigError> {
    let url = url::Url::parse(text.trim())
        .map_err(|error| ConfigError(format!("JWT_JWKS_URL is not an address: {error}")))?;
    if url.scheme() != "https" && !is_loopback(&url) {
        return Err(ConfigError(
            "JWT_JWKS_URL must begin with https://: the keys decide who callers are".to_owned(),
        ));
    }
    Ok(url)
}

/// A variable that is empty is one that is not set.
fn set(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty()).cloned()
}
