//! Reads one key of a key set (RFC 7517). Providers publish keys in many forms. Each form that
//! identifies a key unambiguously is accepted, and every other key gets a reason for the log.

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::Value;

use super::token::algorithm;

/// Base64 as providers write it: with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A public key and the only algorithm that it may be used with.
pub(super) struct Key {
    /// Several keys may share an id (RFC 7517, section 4.5), and a key may have none.
    pub(super) id: Option<String>,
    pub(super) decoding: DecodingKey,
    pub(super) algorithm: Algorithm,
}

impl Key {
    /// Reads a key whose algorithm is one of `accepted`. The key determines its algorithm: the one
    /// that it declares, or else the usual one of its type. The token has no influence.
    ///
    /// # Errors
    ///
    /// Returns the reason why the key is not used.
    pub(super) fn read(jwk: &Value, accepted: &[Algorithm]) -> Result<Self, String> {
        if let Some(usage) = present(jwk, "use").filter(|usage| **usage != "sig") {
            return Err(format!("its use is {usage}, not \"sig\""));
        }
        let allow_signatures = |operations: &Value| {
            let operations = operations.as_array();
            operations.is_some_and(|list| {
                list.is_empty() || list.iter().any(|one| one == "verify" || one == "sign")
            })
        };
        if !present(jwk, "key_ops").is_none_or(allow_signatures) {
            return Err("its key_ops do not include \"verify\"".to_owned());
        }
        let algorithm = algorithm_of(jwk)?;
        if !accepted.contains(&algorithm) {
            return Err(format!("its algorithm {algorithm:?} is not in JWT_ALGORITHMS"));
        }
        let decoding = match algorithm {
            Algorithm::ES256 => point::<32>(jwk)?,
            Algorithm::ES384 => point::<48>(jwk)?,
            Algorithm::EdDSA => ed25519(jwk)?,
            _ => rsa(jwk)?,
        };
        Ok(Self { id: text(jwk, "kid").map(ToOwned::to_owned), decoding, algorithm })
    }
}

/// The algorithm that a key declares, or else the usual one of its type.
fn algorithm_of(jwk: &Value) -> Result<Algorithm, String> {
    // The usual algorithm first.
    let algorithms: &[Algorithm] = match (text(jwk, "kty"), text(jwk, "crv")) {
        (Some("RSA"), _) => AlgorithmFamily::Rsa.algorithms(),
        (Some("EC"), Some("P-256")) => &[Algorithm::ES256],
        (Some("EC"), Some("P-384")) => &[Algorithm::ES384],
        (Some("OKP"), Some("Ed25519")) => &[Algorithm::EdDSA],
        (Some("EC" | "OKP"), curve) => {
            return Err(format!("its curve {} is not supported", curve.unwrap_or("(none)")));
        }
        (kind, _) => {
            return Err(format!("its type {} is not supported", kind.unwrap_or("(none)")));
        }
    };
    match present(jwk, "alg") {
        None => Ok(algorithms[0]),
        Some(name) => name
            .as_str()
            .and_then(algorithm)
            .filter(|named| algorithms.contains(named))
            .ok_or_else(|| format!("its algorithm {name} is not supported")),
    }
}

/// A field that is present, and neither null nor empty.
fn present<'jwk>(jwk: &'jwk Value, name: &str) -> Option<&'jwk Value> {
    jwk.get(name).filter(|value| !value.is_null() && **value != "")
}

fn text<'jwk>(jwk: &'jwk Value, name: &str) -> Option<&'jwk str> {
    jwk.get(name)?.as_str()
}

/// Decodes a number without its leading zeros. Some providers use the alphabet of plain Base64,
/// break lines, or pad.
fn number(jwk: &Value, name: &str) -> Result<Vec<u8>, String> {
    let text = text(jwk, name).ok_or_else(|| format!("it has no {name}"))?;
    let text: String = text
        .chars()
        .filter(|char| !char.is_ascii_whitespace())
        .map(|char| match char {
            '+' => '-',
            '/' => '_',
            char => char,
        })
        .collect();
    let bytes = BASE64.decode(text).map_err(|_| format!("its {name} is not Base64"))?;
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    Ok(bytes[start..].to_vec())
}

fn rsa(jwk: &Value) -> Result<DecodingKey, String> {
    let (modulus, exponent) = (number(jwk, "n")?, number(jwk, "e")?);
    // The cryptographic library verifies nothing with other sizes.
    if !(256..=1024).contains(&modulus.len()) {
        return Err("an RSA key must have 2048 to 8192 bits".to_owned());
    }
    Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

/// A point of a curve whose coordinates have `SIZE` bytes.
fn point<const SIZE: usize>(jwk: &Value) -> Result<DecodingKey, String> {
    // SEC 1, section 2.3.3: an uncompressed point.
    let mut point = vec![4];
    for name in ["x", "y"] {
        point.extend(padded::<SIZE>(&number(jwk, name)?, name)?);
    }
    Ok(DecodingKey::from_ec_der(&point))
}

fn ed25519(jwk: &Value) -> Result<DecodingKey, String> {
    Ok(DecodingKey::from_ed_der(&padded::<32>(&number(jwk, "x")?, "x")?))
}

/// Restores the leading zeros of a coordinate of `SIZE` bytes.
fn padded<const SIZE: usize>(number: &[u8], name: &str) -> Result<[u8; SIZE], String> {
    let mut coordinate = [0; SIZE];
    let start = coordinate
        .len()
        .checked_sub(number.len())
        .ok_or_else(|| format!("its {name} has more than {SIZE} bytes"))?;
    coordinate[start..].copy_from_slice(number);
    Ok(coordinate)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ALL: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

    fn reason(jwk: &Value) -> String {
        Key::read(jwk, &ALL).err().unwrap_or_default()
    }

    #[test]
    fn a_key_that_is_not_used_has_a_reason() {
        let n = "_".repeat(342);
        for (jwk, expected) in [
            (json!({ "kty": "RSA", "use": "enc", "n": n, "e": "AQAB" }), "its use is \"enc\""),
            (
                json!({ "kty": "RSA", "key_ops": ["encrypt"], "n": n, "e": "AQAB" }),
                "its key_ops do not include",
            ),
            (
                json!({ "kty": "RSA", "alg": "RS512", "n": n, "e": "AQAB" }),
                "its algorithm RS512 is not in JWT_ALGORITHMS",
            ),
            (
                json!({ "kty": "RSA", "alg": "RSA-OAEP", "n": n, "e": "AQAB" }),
                "its algorithm \"RSA-OAEP\"",
            ),
            (json!({ "kty": "RSA", "alg": ["RS256"], "n": n }), "its algorithm [\"RS256\"]"),
            (
                json!({ "kty": "RSA", "alg": "EdDSA", "n": n, "e": "AQAB" }),
                "its algorithm \"EdDSA\"",
            ),
            (json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }), "2048"),
            (json!({ "kty": "RSA", "e": "AQAB" }), "it has no n"),
            (json!({ "kty": "RSA", "n": "ä", "e": "AQAB" }), "its n is not Base64"),
            (json!({ "kty": "EC", "crv": "P-521" }), "its curve P-521"),
            (json!({ "kty": "EC", "crv": "P-384", "alg": "ES256" }), "its algorithm \"ES256\""),
            (json!({ "kty": "EC", "crv": "P-256", "x": "_".repeat(60) }), "more than 32 bytes"),
            (json!({ "kty": "OKP", "crv": "Ed448" }), "its curve Ed448"),
            (json!({ "kty": "oct", "k": "AAAA" }), "its type oct"),
            (json!({ "kty": "AKP", "alg": "ML-DSA-44" }), "its type AKP"),
            (json!({ "kty": 7 }), "its type (none)"),
            (json!("key"), "its type (none)"),
        ] {
            assert!(reason(&jwk).contains(expected), "{jwk}: {}", reason(&jwk));
        }
        let rsa = json!({ "kty": "RSA", "n": n, "e": "AQAB" });
        let only_es256 = Key::read(&rsa, &[Algorithm::ES256]).err();
        assert_eq!(only_es256.unwrap(), "its algorithm RS256 is not in JWT_ALGORITHMS");
    }

    #[test]
    fn numbers_are_read_in_every_encoding_that_providers_use() {
        let plain = number(&json!({ "n": "-_8B" }), "n").unwrap();
        for other in ["+/8B", "-_8B\n", "-_ 8B", "APv_AQ==", "APv_AQ"] {
            assert_eq!(number(&json!({ "n": other }), "n").unwrap(), plain, "{other}");
        }
        assert_eq!(padded::<32>(&[7], "x").unwrap()[31], 7);
    }
}
