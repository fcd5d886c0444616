//! The proof that a server opens a session, not SQL inside a request: an HMAC over caller and time.
//! Servers register their key with the database, where only functions of the owner can read it.

use std::{
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::hmac;
use pg::ConnectionPool;
use sea_orm::{Value, Values};

use super::{Access, pools::query_once};
use crate::error::Result;

/// Separates this key from other keys derived from the same secret.
const LABEL: &[u8] = b"tenantry: proof of the caller";

/// The block size of SHA-256, in bytes.
const BLOCK: usize = 64;

/// The key of proofs, the same on all servers with the same secret.
#[derive(Clone)]
pub(super) struct ProofKey {
    bytes: hmac::Tag,
    /// The same key, prepared for signing.
    signing: hmac::Key,
}

impl ProofKey {
    /// The key that is derived from a secret.
    pub(super) fn of(secret: &[u8]) -> Self {
        let bytes = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), LABEL);
        Self { bytes, signing: hmac::Key::new(hmac::HMAC_SHA256, bytes.as_ref()) }
    }

    /// The current time and its proof, as parameters of a database function.
    pub(super) fn prove(&self, purpose: &str, texts: &[Option<&str>]) -> [Value; 2] {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since.as_secs()).unwrap_or_default();
        let message = format!("{now} {}", message(purpose, texts));
        [now.into(), hmac::sign(&self.signing, message.as_bytes()).as_ref().to_vec().into()]
    }

    /// Registers the key with a database.
    pub(super) async fn register(&self, system: &ConnectionPool) -> Result<()> {
        let padded = |pad: u8| {
            let mut block = vec![pad; BLOCK];
            block.iter_mut().zip(self.bytes.as_ref()).for_each(|(byte, key)| *byte ^= key);
            block
        };
        let values = Values(vec![padded(0x36).into(), padded(0x5c).into()]);
        let register = "SELECT auth.register_proof_key($1, $2)";
        query_once(system, Access::Write, register, Some(values)).await?;
        Ok(())
    }
}

/// Prefixes each text with its length, so that different callers have different messages. A missing
/// text has no length.
fn message(purpose: &str, texts: &[Option<&str>]) -> String {
    let mut message = purpose.to_owned();
    for text in texts {
        let _ = match text {
            Some(text) => write!(message, " {}:{text}", text.len()),
            None => write!(message, " :"),
        };
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_callers_share_a_message() {
        let messages = [
            message("open", &[Some("a"), Some("b"), None]),
            message("open", &[Some("a"), None, Some("b")]),
            message("open", &[Some("a"), Some("b"), Some("")]),
            message("open", &[Some("a 1:b"), None, None]),
            message("open", &[Some("ab"), Some(""), None]),
            message("provision", &[Some("a"), Some("b"), None]),
        ];
        assert_eq!(messages[0], "open 1:a 1:b :");
        for (index, message) in messages.iter().enumerate() {
            assert!(!messages[..index].contains(message), "{message}");
        }
    }
}
