//! Verifies bearer tokens: a JSON Web Token (RFC 7519) becomes a [`Caller`] or an error that says
//! what is wrong with it.
//!
//! The configuration determines the accepted algorithms, never the token (RFC 8725, section 3.1).
//! Times are compared with the injected clock.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
};
use serde_json::{Map, Value};

use super::{
    jwks::{Jwks, JwksOptions, KeySet, KeysUnavailable},
    times::Times,
    token_cache::{CachedToken, TokenCache},
};

use crate::{
    clock::Clock,
    text::{Email, display_name},
};

/// Issuer and subject form an index key in the database, whose size is limited.
const MAX_IDENTITY_BYTES: usize = 1024;

const MAX_NAME_CHARS: usize = 200;

/// The claims that are read, and the values that they must have.
#[derive(Clone, Debug)]
pub struct Claims {
    /// The required issuer, if one is configured.
    pub issuer: Option<String>,
    /// The required audience, if one is configured.
    pub audience: Option<String>,
    /// The claim that holds the e-mail address.
    pub email: String,
    /// Treats addresses as verified even without `email_verified`.
    pub email_trusted: bool,
    /// The claim that holds the organization's id or slug; a dotted path reaches into objects.
    pub organization: String,
}

/// The identity that a verified token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// `iss`, or the empty string without it.
    pub issuer: String,
    /// `sub`: a string of at most 1024 bytes.
    pub subject: String,
    /// The verified e-mail address, in lower case; `None` if it is missing or not verified.
    pub email: Option<String>,
    /// `iat`, which decides which of two tokens of one identity is newer.
    pub issued_at: Option<DateTime<Utc>>,
    /// The display name.
    pub name: Option<String>,
    /// The id or slug of the organization that the token names.
    pub organization: Option<String>,
    /// When the token expires, leeway included.
    pub expires_at: DateTime<Utc>,
}

/// Why a token is refused; the text is sent to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenError(pub &'static str);

/// Why a caller could not be verified.
#[derive(Debug)]
pub enum VerifyError {
    /// The token is not valid.
    Token(TokenError),
    /// The token names an unknown key, and the issuer's keys cannot be fetched.
    Unavailable(KeysUnavailable),
}

impl From<TokenError> for VerifyError {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

/// The source of verification keys.
enum Keys {
    /// Shared secrets for HS256; each of them is accepted.
    Secrets(Vec<DecodingKey>),
    /// The issuer's key set.
    Issuer(Arc<Jwks>),
}

/// Verifies bearer tokens and caches the results.
pub struct Verifier {
    keys: Keys,
    tokens: TokenCache,
    claims: Claims,
    clock: Clock,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Verifier").field("claims", &self.claims).finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier of HS256 tokens signed with one of these secrets.
    #[must_use]
    pub fn with_secrets(secrets: &[&str], claims: Claims, clock: Clock) -> Self {
        let keys = secrets.iter().map(|secret| DecodingKey::from_secret(secret.as_bytes()));
        let keys = Keys::Secrets(keys.collect());
        Self { keys, tokens: TokenCache::new(), claims, clock }
    }

    /// A verifier of tokens signed with the issuer's keys.
    ///
    /// # Errors
    ///
    /// When the HTTP client cannot be created.
    pub fn with_issuer(
        options: JwksOptions,
        claims: Claims,
        clock: Clock,
    ) -> Result<Self, reqwest::Error> {
        let jwks = Arc::new(Jwks::new(options)?);
        Ok(Self { keys: Keys::Issuer(jwks), tokens: TokenCache::new(), claims, clock })
    }

    /// Verifies signature, times, issuer and audience, and reads the claims.
    ///
    /// # Errors
    ///
    /// When the token is not valid, or its key cannot be fetched.
    pub async fn verify(&self, token: &str) -> Result<Arc<Caller>, VerifyError> {
        let now = seconds(self.clock.now());
        let generation = match &self.keys {
            Keys::Secrets(_) => 0,
            Keys::Issuer(jwks) => jwks.current().generation,
        };
        if let Some(CachedToken { caller, times }) = self.tokens.get(token, generation) {
            times.check(now)?;
            return Ok(caller);
        }
        let (claims, generation) = match &self.keys {
            Keys::Secrets(keys) => (signed_with_one_of(token, keys)?, generation),
            Keys::Issuer(jwks) => Box::pin(by_issuer(token, jwks)).await?,
        };
        let times = Times::of(&claims)?;
        times.check(now)?;
        self.check_parties(&claims)?;
        let caller = Arc::new(self.caller(&claims, times)?);
        let cached = CachedToken { caller: Arc::clone(&caller), times };
        self.tokens.put(token, generation, cached);
        Ok(caller)
    }

    fn check_parties(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        if let Some(issuer) = &self.claims.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(TokenError("the token is from another issuer"));
        }
        if let Some(audience) = &self.claims.audience {
            let meant = match claims.get("aud") {
                Some(Value::String(one)) => one == audience,
                Some(Value::Array(many)) => many.iter().any(|one| one == audience),
                _ => false,
            };
            if !meant {
                return Err(TokenError("the token is for another audience"));
            }
        }
        Ok(())
    }

    fn caller(&self, claims: &Map<String, Value>, times: Times) -> Result<Caller, TokenError> {
        let issuer = match claims.get("iss") {
            None => String::new(),
            Some(issuer) => identity_part(issuer)
                .ok_or(TokenError("the token's iss claim is not a string of at most 1024 bytes"))?,
        };
        let subject = claims
            .get("sub")
            .and_then(identity_part)
            .ok_or(TokenError("the token's sub claim is not a string of at most 1024 bytes"))?;
        let organization = match at_path(claims, &self.claims.organization) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.is_empty() => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => return Err(TokenError("the token's organization claim is not a string")),
        };
        let name = claims.get("name").and_then(Value::as_str);
        let name = name.and_then(|name| display_name(name, MAX_NAME_CHARS));
        let (issued_at, expires_at) = (times.issued_at(), times.expires_at());
        let email = self.verified_email(claims);
        Ok(Caller { issuer, subject, email, issued_at, name, organization, expires_at })
    }

    fn verified_email(&self, claims: &Map<String, Value>) -> Option<String> {
        let verified = self.claims.email_trusted
            || match claims.get("email_verified") {
                Some(Value::Bool(verified)) => *verified,
                // Some identity providers send the boolean as a string.
                Some(Value::String(text)) => text == "true",
                _ => false,
            };
        let email = Email::parse(at_path(claims, &self.claims.email)?.as_str()?)?;
        verified.then(|| email.into_string())
    }
}

/// The claims of a token, if its signature is valid.
fn signed(
    token: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
) -> Result<Map<String, Value>, TokenError> {
    if has_critical_extensions(token) {
        return Err(TokenError("the token's crit header names parameters that are not supported"));
    }
    decode(token, key, &signature_only(algorithm)).map(|decoded| decoded.claims).map_err(|_| BAD)
}

/// The claims of a token, if one of the secrets signed it.
fn signed_with_one_of(token: &str, keys: &[DecodingKey]) -> Result<Map<String, Value>, TokenError> {
    let mut verdict = Err(BAD);
    for key in keys {
        verdict = signed(token, key, Algorithm::HS256);
        if verdict.is_ok() {
            break;
        }
    }
    verdict
}

/// Whether the header has `crit`. A verifier must understand what it lists (RFC 7515, section
/// 4.1.11), and this one supports no extension.
fn has_critical_extensions(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let header = BASE64_URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
    serde_json::from_slice::<Map<String, Value>>(&header)
        .is_ok_and(|header| header.contains_key("crit"))
}

async fn by_issuer(
    token: &str,
    jwks: &Arc<Jwks>,
) -> Result<(Map<String, Value>, u64), VerifyError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError("the token exceeds 16 KiB").into());
    }
    let header = decode_header(token).map_err(|_| BAD)?;
    let known = jwks.current();
    let mut verdict = signed_by_one_of(token, &header, &known);
    // The issuer may have added a key with an unknown id, or one without an id.
    let may_be_new = header.kid.is_none() || known.for_header(&header).next().is_none();
    let mut keys = known;
    if verdict.is_err() && may_be_new {
        match jwks.fresh(keys.generation).await {
            Ok(fresh) => {
                keys = fresh;
                verdict = signed_by_one_of(token, &header, &keys);
            }
            // Without the issuer there is no way to tell whether the key exists.
            Err(error) if keys.for_header(&header).next().is_none() => {
                return Err(VerifyError::Unavailable(error));
            }
            Err(_) => {}
        }
    }
    Ok((verdict?, keys.generation))
}

/// The claims of a token, if one of the keys that match its header signed it.
fn signed_by_one_of(
    token: &str,
    header: &Header,
    keys: &KeySet,
) -> Result<Map<String, Value>, TokenError> {
    let mut verdict = Err(UNKNOWN_KEY);
    for key in keys.for_header(header) {
        verdict = signed(token, &key.decoding, key.algorithm);
        if verdict.is_ok() {
            break;
        }
    }
    verdict
}

const UNKNOWN_KEY: TokenError =
    TokenError("the token is signed with a key that is not in the issuer's key set");

const BAD: TokenError = TokenError("the token is malformed or its signature is invalid");

/// Longer than any reasonable header line.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Validates only the signature. This module checks the claims, with the injected clock and with
/// precise errors.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

/// A string that fits into a PostgreSQL index key: bounded in size and without NUL.
fn identity_part(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    (text.len() <= MAX_IDENTITY_BYTES && !text.contains('\0')).then(|| text.to_owned())
}

/// The claim with exactly this name, which may contain dots, or else the value at the dotted path.
fn at_path<'claims>(claims: &'claims Map<String, Value>, path: &str) -> Option<&'claims Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let mut parts = path.split('.');
    let first = claims.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
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
