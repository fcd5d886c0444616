//! The parts of a token before its signature is verified (RFC 7515). They choose the keys to try,
//! and nothing else may rely on them.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::error::TokenError;

pub(super) const BAD: TokenError = TokenError("the token is malformed or its signature is invalid");

/// Longer than any reasonable header line.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A token with an unverified signature.
pub(super) struct Token<'text> {
    /// The algorithm that the header names.
    algorithm: Algorithm,
    /// The id of the key, if the header names one.
    key_id: Option<String>,
    pub(super) claims: Map<String, Value>,
    /// The text that the signature covers.
    signed: &'text str,
    signature: &'text str,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default, deserialize_with = "is_present")]
    crit: bool,
}

/// Whether a field is present, with any value.
fn is_present<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// An object in which each name occurs once. Parsers disagree about which of two values counts.
struct Unambiguous(Map<String, Value>);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct Claims;

        impl<'de> Visitor<'de> for Claims {
            type Value = Unambiguous;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unambiguous, A::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name occurs twice"));
                    }
                }
                Ok(Unambiguous(claims))
            }
        }

        value.deserialize_map(Claims)
    }
}

impl<'text> Token<'text> {
    /// Splits a token into its parts and decodes them.
    ///
    /// # Errors
    ///
    /// When the text is not a token, or its header demands an extension.
    pub(super) fn parse(text: &'text str) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(TokenError("the token exceeds 16 KiB"));
        }
        // RFC 7516, section 3.1.
        if text.split('.').count() == 5 {
            return Err(TokenError("the token is encrypted, and only signed ones are accepted"));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(BAD)?;
        let (header, claims) = signed.split_once('.').ok_or(BAD)?;
        let header: Header = decoded(header)?;
        // A verifier must understand the extensions that `crit` lists (RFC 7515, section 4.1.11),
        // and this one supports none.
        if header.crit {
            return Err(TokenError(
                "the token's crit header names parameters that are not supported",
            ));
        }
        let algorithm = algorithm(&header.alg)
            .ok_or(TokenError("the token's signature algorithm is not supported"))?;
        let Unambiguous(claims) = decoded(claims)?;
        Ok(Self { algorithm, key_id: header.kid, claims, signed, signature })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Whether this key has signed the token. The key's algorithm counts, and the header must name
    /// the same.
    pub(super) fn is_signed_by(&self, key: &DecodingKey, algorithm: Algorithm) -> bool {
        self.algorithm == algorithm
            && crypto::verify(self.signature, self.signed.as_bytes(), key, algorithm)
                .is_ok_and(|is_valid| is_valid)
    }
}

/// The algorithm of this name. RFC 9864 gives `EdDSA` with Ed25519 a second one.
#[must_use]
pub fn algorithm(name: &str) -> Option<Algorithm> {
    if name == "Ed25519" { Some(Algorithm::EdDSA) } else { name.parse().ok() }
}

fn decoded<T: DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| BAD)?;
    serde_json::from_slice(&bytes).map_err(|_| BAD)
}
