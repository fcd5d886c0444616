//! Verifies bearer tokens: a JSON Web Token (RFC 7519) becomes a [`Caller`] or an error with the
//! reason.
//!
//! The configuration determines the issuers and the algorithm of each key, never the token (RFC
//! 8725, section 3.1). Times are compared with the injected clock.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use serde_json::Value;

use super::{
    claims::{Caller, Claims},
    error::{TokenError, VerifyError},
    jwks::{Jwks, JwksOptions},
    times::Times,
    token::{BAD, Token},
    token_cache::{CachedToken, TokenCache},
};

use crate::clock::Clock;

/// The source of verification keys.
enum Keys {
    /// Shared secrets for HS256; each of them is accepted.
    Secrets(Vec<DecodingKey>),
    /// The issuer's key set.
    Set(Arc<Jwks>),
}

impl Keys {
    fn generation(&self) -> u64 {
        match self {
            Self::Secrets(_) => 0,
            Self::Set(jwks) => jwks.generation(),
        }
    }

    /// Verifies the signature, and returns the generation of the keys.
    async fn verify(&self, token: &Token<'_>) -> Result<u64, VerifyError> {
        match self {
            Self::Secrets(keys) => {
                let mut keys = keys.iter();
                let is_signed = keys.any(|key| token.is_signed_by(key, Algorithm::HS256));
                if is_signed { Ok(0) } else { Err(BAD.into()) }
            }
            Self::Set(jwks) => Box::pin(jwks.verify(token)).await,
        }
    }
}

/// An issuer whose tokens are accepted: its keys, and its claims.
pub struct TrustedIssuer {
    keys: Keys,
    claims: Claims,
}

impl std::fmt::Debug for TrustedIssuer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TrustedIssuer")
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}

impl TrustedIssuer {
    /// An issuer of HS256 tokens signed with one of these secrets.
    #[must_use]
    pub fn with_secrets(secrets: &[&str], claims: Claims) -> Self {
        let keys = secrets.iter().map(|secret| DecodingKey::from_secret(secret.as_bytes()));
        Self { keys: Keys::Secrets(keys.collect()), claims }
    }

    /// An issuer that publishes its keys.
    ///
    /// # Errors
    ///
    /// When the HTTP client cannot be created.
    pub fn with_key_set(options: JwksOptions, claims: Claims) -> Result<Self, reqwest::Error> {
        Ok(Self { keys: Keys::Set(Arc::new(Jwks::new(options)?)), claims })
    }
}

/// Verifies bearer tokens and caches the results.
pub struct Verifier {
    issuers: Vec<TrustedIssuer>,
    tokens: TokenCache,
    clock: Clock,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Verifier").field("issuers", &self.issuers).finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier of tokens of these issuers. A token belongs to the first issuer that it names in
    /// `iss`, or that accepts any.
    #[must_use]
    pub fn new(issuers: Vec<TrustedIssuer>, clock: Clock) -> Self {
        Self { issuers, tokens: TokenCache::new(), clock }
    }

    /// Verifies issuer, signature, times and audience, and reads the claims.
    ///
    /// # Errors
    ///
    /// When the token is not valid, or its key cannot be fetched.
    pub async fn verify(&self, text: &str) -> Result<Arc<Caller>, VerifyError> {
        let now = seconds(self.clock.now());
        if let Some(cached) = self.tokens.get(text)
            && self.issuers[cached.issuer].keys.generation() == cached.generation
        {
            cached.times.check(now)?;
            return Ok(cached.caller);
        }
        let token = Token::parse(text)?;
        let (issuer, TrustedIssuer { keys, claims }) = self
            .issuers
            .iter()
            .enumerate()
            .find(|(_, issuer)| issuer.claims.is_issuer_of(&token.claims))
            .ok_or_else(|| self.other_issuer(&token))?;
        let generation = keys.verify(&token).await?;
        let times = Times::of(&token.claims)?;
        times.check(now)?;
        let caller = Arc::new(claims.caller(&token.claims, times)?);
        let cached = CachedToken { caller: Arc::clone(&caller), times, issuer, generation };
        self.tokens.put(text, cached);
        Ok(caller)
    }

    fn other_issuer(&self, token: &Token<'_>) -> TokenError {
        let mut issuers = self.issuers.iter();
        if issuers.any(|issuer| issuer.claims.is_almost_issuer_of(&token.claims)) {
            return TokenError(
                "the token's issuer and the configured one differ in case, in https:// or in a slash at the end",
            );
        }
        TokenError("the token is from another issuer")
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds of the common era fit a double exactly")]
fn seconds(time: DateTime<Utc>) -> f64 {
    time.timestamp() as f64
}

/// Signs claims as an HS256 token.
///
/// # Errors
///
/// When the library fails to sign.
pub fn sign(secret: &str, claims: &Value) -> Result<String, jsonwebtoken::errors::Error> {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes()))
}
