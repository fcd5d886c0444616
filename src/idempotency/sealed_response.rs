//! Stored responses at rest. They are encrypted (AES-256-GCM), because some contain secrets, such
//! as the link of an invitation. Each is bound to its request, user and organization.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    error::Unspecified,
    hmac,
};

use crate::tenancy::SecretKeys;

/// Derives a separate key from the same secret. The number changes with the stored format.
const PURPOSE: &[u8] = b"tenantry idempotency 2";

fn key(secret: &[u8]) -> Result<RandomizedNonceKey, Unspecified> {
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), PURPOSE);
    RandomizedNonceKey::new(&AES_256_GCM, derived.as_ref())
}

/// Encrypts a response with the newest secret. Returns the nonce followed by the ciphertext.
pub(super) fn seal(
    secrets: &SecretKeys,
    bound: &[u8],
    response: &str,
) -> Result<Vec<u8>, Unspecified> {
    let mut sealed = response.as_bytes().to_vec();
    let nonce = key(secrets.newest())?.seal_in_place_append_tag(Aad::from(bound), &mut sealed)?;
    Ok([nonce.as_ref().as_slice(), &sealed].concat())
}

/// Decrypts a response that was stored for this request with any of the secrets.
pub(super) fn unseal(
    secrets: &SecretKeys,
    bound: &[u8],
    sealed: &[u8],
) -> Result<String, Unspecified> {
    let opened = secrets.all().find_map(|secret| unseal_with(secret, bound, sealed).ok());
    opened.ok_or(Unspecified)
}

fn unseal_with(secret: &[u8], bound: &[u8], sealed: &[u8]) -> Result<String, Unspecified> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(Unspecified)?;
    let mut sealed = sealed.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(nonce)?;
    let response = key(secret)?.open_in_place(nonce, Aad::from(bound), &mut sealed)?;
    String::from_utf8(response.to_vec()).map_err(|_| Unspecified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_opens_only_for_its_request_and_secret() -> Result<(), Unspecified> {
        let keys = |keys: &[u8]| SecretKeys::new(keys.iter().map(|key| vec![*key; 32]).collect());
        let (secret, other, rotated) = (keys(&[1]), keys(&[2]), keys(&[2, 1]));
        let sealed = seal(&secret, b"request", "a response with a secret")?;
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_ne!(sealed, seal(&secret, b"request", "a response with a secret")?);
        assert_eq!(unseal(&secret, b"request", &sealed)?, "a response with a secret");
        assert!(unseal(&secret, b"another", &sealed).is_err());
        assert!(unseal(&other, b"request", &sealed).is_err());
        assert_eq!(unseal(&rotated, b"request", &sealed)?, "a response with a secret");
        assert!(unseal(&secret, b"request", &seal(&rotated, b"request", "new")?).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(unseal(&secret, b"request", &changed).is_err(), "{at}");
        }
        assert!(unseal(&secret, b"request", &sealed[..4]).is_err());
        Ok(())
    }
}
