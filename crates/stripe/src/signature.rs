//! Verifies that a webhook comes from Stripe: HMAC-SHA256 over timestamp and body, as described in
//! Stripe's documentation under "Verify webhook signatures manually".

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use chrono::{DateTime, TimeDelta, Utc};

/// The maximum age of a signature, which prevents replays; the same as in Stripe's libraries.
const TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// The maximum number of signatures that are checked. Stripe sends one for each secret.
const MOST_SIGNATURES: usize = 8;

/// Why a signature is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header is missing or has another form.
    #[error("the header Stripe-Signature must have the form t=…,v1=…")]
    Malformed,
    /// The timestamp is too old, or in the future.
    #[error("the signature's timestamp differs from the server's clock by more than five minutes")]
    Time,
    /// The signature was made with another secret, or for another body.
    #[error("the signature does not match the body; check STRIPE_WEBHOOK_SECRET")]
    Mismatch,
}

/// Verifies the header `Stripe-Signature` of a webhook against its raw body.
///
/// # Errors
///
/// The reason why the signature is refused.
pub fn verify(
    header: &str,
    body: &[u8],
    secrets: &[String],
    now: DateTime<Utc>,
) -> Result<(), SignatureError> {
    let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
    let (_, time) = parts().find(|(name, _)| *name == "t").ok_or(SignatureError::Malformed)?;
    let signed_at = time.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let signed_at = signed_at.ok_or(SignatureError::Malformed)?;
    if (now - signed_at).abs() > TOLERANCE {
        return Err(SignatureError::Time);
    }
    let signatures: Vec<Vec<u8>> = parts()
        .filter(|(name, _)| *name == "v1")
        .filter_map(|(_, text)| from_hex(text))
        .take(MOST_SIGNATURES)
        .collect();
    if signatures.is_empty() {
        return Err(SignatureError::Malformed);
    }
    // The body is hashed once per configured secret, however many signatures the request has.
    let fits = secrets.iter().any(|secret| {
        let mut tag =
            hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
        for part in [time.as_bytes(), b".", body] {
            tag.update(part);
        }
        let tag = tag.sign();
        signatures.iter().any(|signature| verify_slices_are_equal(tag.as_ref(), signature).is_ok())
    });
    if fits { Ok(()) } else { Err(SignatureError::Mismatch) }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with openssl: `printf '1893456000.{}' | openssl dgst -sha256 -hmac whsec_test`
    const SIGNATURE: &str = "07b6305f3ee4aa9960c246660b26a184d45a77e755738b2301ff660c1e7fb0fa";

    #[test]
    fn a_signature_is_the_secret_s_the_body_s_and_the_minute_s() {
        let now = DateTime::from_timestamp(1_893_456_000, 0).unwrap();
        let secrets = ["whsec_old".to_owned(), "whsec_test".to_owned()];
        let header = format!("t=1893456000, v0=abc, v1=00, v1={SIGNATURE}");
        assert_eq!(verify(&header, b"{}", &secrets, now), Ok(()));
        assert_eq!(verify(&header, b"{ }", &secrets, now), Err(SignatureError::Mismatch));
        assert_eq!(verify(&header, b"{}", &secrets[..1], now), Err(SignatureError::Mismatch));
        for seconds in [-300, 300] {
            let then = now + TimeDelta::seconds(seconds);
            assert_eq!(verify(&header, b"{}", &secrets, then), Ok(()));
        }
        for seconds in [-301, 301] {
            let then = now + TimeDelta::seconds(seconds);
            assert_eq!(verify(&header, b"{}", &secrets, then), Err(SignatureError::Time));
        }
        for odd in ["", "t=1893456000", "v1=00", "t=x,v1=00", "t=1893456000,v1=xyz"] {
            assert_eq!(verify(odd, b"{}", &secrets, now), Err(SignatureError::Malformed), "{odd}");
        }
    }
}
