//! Passwords of roles as PostgreSQL stores them, so that the password itself is never sent in a
//! statement, which the server may log.

use std::{borrow::Cow, num::NonZeroU32};

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::{Engine, prelude::BASE64_STANDARD};
use postgres_protocol::password::{md5, scram_sha_256};

/// A SCRAM-SHA-256 verifier of the password with a new salt, for `ALTER ROLE … PASSWORD`. It has no
/// characters that need quoting in a literal.
#[must_use]
pub fn password_verifier(password: &str) -> String {
    scram_sha_256(password.as_bytes())
}

/// Whether `stored`, a value of `pg_authid.rolpassword`, is the password of the role.
#[must_use]
pub fn password_matches(stored: &str, role: &str, password: &str) -> bool {
    if stored.starts_with("md5") {
        return stored == md5(password.as_bytes(), role);
    }
    is_verifier_of(stored, password).unwrap_or(false)
}

/// Checks a verifier (PostgreSQL manual, section 53.8; RFC 5803):
/// `SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY`. `None` if it has another form.
fn is_verifier_of(verifier: &str, password: &str) -> Option<bool> {
    let (parameters, keys) = verifier.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
    let (iterations, salt) = parameters.split_once(':')?;
    let (stored_key, server_key) = keys.split_once(':')?;
    let iterations: NonZeroU32 = iterations.parse().ok()?;
    let decoded = |text: &str| BASE64_STANDARD.decode(text).ok();
    // As the server does, passwords that SASLprep refuses are used as they are.
    let prepared = stringprep::saslprep(password).unwrap_or(Cow::Borrowed(password));
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    let (salt, password) = (decoded(salt)?, prepared.as_bytes());
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password, &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client_key = hmac::sign(&key, b"Client Key");
    let is_stored =
        digest::digest(&digest::SHA256, client_key.as_ref()).as_ref() == decoded(stored_key)?;
    Some(is_stored && hmac::verify(&key, b"Server Key", &decoded(server_key)?).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_belongs_to_one_password() {
        for password in ["secret", "", "p\u{a0}\u{ad}x", "é\u{7}", "sp ace'\"\\"] {
            let verifier = password_verifier(password);
            assert!(password_matches(&verifier, "me", password), "{password:?}");
            assert!(!password_matches(&verifier, "me", "another"), "{password:?}");
            assert_ne!(verifier, password_verifier(password), "the salt is new");
        }
    }

    #[test]
    fn verifiers_of_the_server_are_understood() {
        let stored = md5(b"pencil", "me");
        assert!(password_matches(&stored, "me", "pencil"));
        assert!(!password_matches(&stored, "other", "pencil"));
        assert!(!password_matches(&stored, "me", "pen"));
        for malformed in ["", "pencil", "SCRAM-SHA-256$0:AA==$AA==:AA==", "SCRAM-SHA-256$1:?$:"] {
            assert!(!password_matches(malformed, "me", "pencil"), "{malformed}");
        }
    }
}
