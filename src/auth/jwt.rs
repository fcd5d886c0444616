//! Bearer tokens: JSON Web Tokens (RFC 7519) become a [`Caller`], or an error that says what is
//! wrong with them.
//!
//! The accepted algorithms come from the configuration, never from the token (RFC 8725, section
//! 3.1), and times are compared with the injected clock.

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

/// Issuer and subject are a key in the database, whose size is bounded there.
const MAX_IDENTITY_BYTES: usize = 1024;

const MAX_NAME_CHARS: usize = 200;

/// Which claims are read, and what they must be.
#[derive(Clone, Debug)]
pub struct Claims {
    /// The issuer that tokens must carry, when configured.
    pub issuer: Option<String>,
    /// The audience that tokens must carry, when configured.
    pub audience: Option<String>,
    /// The claim with the e-mail address.
    pub email: String,
    /// Addresses are verified even where `email_verified` does not say so.
    pub email_trusted: bool,
    /// The claim with the organization's id or slug; a dotted path reaches into objects.
    pub organization: String,
}

/// Who a verified token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// `iss`, or the empty string.
    pub issuer: String,
    /// `sub`: any string of at most 1024 bytes.
    pub subject: String,
    /// In lower case; only ever a verified address.
    pub email: Option<String>,
    /// `iat`: which of two tokens of one identity is the newer.
    pub issued_at: Option<DateTime<Utc>>,
    /// What to call the person.
    pub name: Option<String>,
    /// The organization's id or slug that the token claims.
    pub organization: Option<String>,
    /// When the token is good no more.
    pub expires_at: DateTime<Utc>,
}

/// Why a token is refused; the text is for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenError(pub &'static str);

/// Why a caller is not known.
#[derive(Debug)]
pub enum VerifyError {
    /// The token is not good.
    Token(TokenError),
    /// Nobody can tell: the issuer's keys were never fetched, and cannot be now.
    Unavailable(KeysUnavailable),
}

impl From<TokenError> for VerifyError {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

/// Where the keys come from.
enum Keys {
    /// Shared secrets, for HS256: each is accepted.
    Secrets(Vec<DecodingKey>),
    /// The issuer's key set.
    Issuer(Arc<Jwks>),
}

/// Verifies tokens.
pub struct Verifier {
    keys: Keys,
    verified: TokenCache,
    claims: Claims,
    clock: Clock,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Verifier").field("claims", &self.claims).finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier of HS256 tokens that are signed with one of these secrets.
    #[must_use]
    pub fn with_secrets(secrets: &[&str], claims: Claims, clock: Clock) -> Self {
        let keys = secrets.iter().map(|secret| DecodingKey::from_secret(secret.as_bytes()));
        let keys = Keys::Secrets(keys.collect());
        Self { keys, verified: TokenCache::new(), claims, clock }
    }

    /// A verifier of tokens that an issuer signs with keys of its own.
    ///
    /// # Errors
    ///
    /// When no client for the issuer can be made.
    pub fn with_issuer(
        options: JwksOptions,
        claims: Claims,
        clock: Clock,
    ) -> Result<Self, reqwest::Error> {
        let jwks = Arc::new(Jwks::new(options)?);
        Ok(Self { keys: Keys::Issuer(jwks), verified: TokenCache::new(), claims, clock })
    }

    /// Checks signature, times, issuer and audience, and reads the claims.
    ///
    /// # Errors
    ///
    /// What is wrong with the token, or that its key cannot be fetched.
    pub async fn verify(&self, token: &str) -> Result<Arc<Caller>, VerifyError> {
        let now = seconds(self.clock.now());
        let generation = match &self.keys {
            Keys::Secrets(_) => 0,
            Keys::Issuer(jwks) => jwks.current().generation,
        };
        if let Some(CachedToken { caller, times }) = self.verified.get(token, generation) {
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
        let vouched = CachedToken { caller: Arc::clone(&caller), times };
        self.verified.put(token, generation, vouched);
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
                // Some providers send the boolean as text.
                Some(Value::String(text)) => text == "true",
                _ => false,
            };
        let email = Email::parse(at_path(claims, &self.claims.email)?.as_str()?)?;
        verified.then(|| email.into_string())
    }
}

/// The claims of a token with a good signature.
fn signed(
    token: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
) -> Result<Map<String, Value>, TokenError> {
    if has_critical_extensions(token) {
        return Err(TokenError("the token has critical header parameters that are not understood"));
    }
    decode(token, key, &signature_only(algorithm)).map(|decoded| decoded.claims).map_err(|_| BAD)
}

/// The claims, if one of the secrets has signed them.
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

/// RFC 7515, section 4.1.11: what the issuer calls critical must be understood, and nothing of it
/// is here.
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
        return Err(TokenError("the token has more than 16 KiB").into());
    }
    let header = decode_header(token).map_err(|_| BAD)?;
    let known = jwks.current();
    let mut verdict = signed_by_one_of(token, &header, &known);
    // A key that nobody knows, or one of the keys that have no names, may be new.
    let may_be_new = header.kid.is_none() || known.for_header(&header).next().is_none();
    let mut keys = known;
    if verdict.is_err() && may_be_new {
        match jwks.fresh(keys.generation).await {
            Ok(fresh) => {
                keys = fresh;
                verdict = signed_by_one_of(token, &header, &keys);
            }
            // No key of this name is known, and nobody can tell whether there is one.
            Err(error) if keys.for_header(&header).next().is_none() => {
                return Err(VerifyError::Unavailable(error));
            }
            Err(_) => {}
        }
    }
    Ok((verdict?, keys.generation))
}

/// The claims, if one of the keys that fit the header has signed them.
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
    TokenError("the token is signed with a key that its issuer does not have");

const BAD: TokenError = TokenError("the token is malformed or its signature is not valid");

/// More than any header line should have; the cache remembers hashes only.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Everything but the signature is checked here, against the injected clock and with errors that
/// tell what is wrong.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

/// A string that PostgreSQL can hold as part of a key: no NUL, bounded in size.
fn identity_part(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    (text.len() <= MAX_IDENTITY_BYTES && !text.contains('\0')).then(|| text.to_owned())
}

/// The claim of that name, which may itself contain dots, or else what the dotted path leads to.
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
/// When the library cannot sign.
pub fn sign(secret: &str, claims: &Value) -> Result<String, jsonwebtoken::errors::Error> {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes()))
}
