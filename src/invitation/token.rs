//! Invitation tokens. A token is recomputed when it is sent, so the database holds only its hash.

use aws_lc_rs::{digest, hmac};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use entity::InvitationId;

use crate::tenancy::SecretKeys;

/// The secret in an invitation's link: HMAC-SHA256 of the invitation's id and rotation.
pub(super) struct Token(String);

impl Token {
    /// Creates the token for this rotation with the newest secret. Tokens of earlier rotations no
    /// longer work.
    pub(super) fn of(keys: &SecretKeys, id: InvitationId, rotation: i32) -> Self {
        Self::with(keys.newest(), id, rotation)
    }

    /// Recomputes the token whose hash the database holds, with the secret that created it. Returns
    /// `None` if no configured secret did.
    pub(super) fn known_as(
        hash: &[u8],
        keys: &SecretKeys,
        id: InvitationId,
        rotation: i32,
    ) -> Option<Self> {
        keys.all().map(|key| Self::with(key, id, rotation)).find(|token| token.hash() == hash)
    }

    fn with(key: &[u8], id: InvitationId, rotation: i32) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let tag = hmac::sign(&key, format!("invitation:{id}:{rotation}").as_bytes());
        Self(BASE64_URL_SAFE_NO_PAD.encode(tag))
    }

    /// Wraps a token that a client presents.
    pub(super) fn shown(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The SHA-256 hash that the database holds.
    pub(super) fn hash(&self) -> Vec<u8> {
        digest::digest(&digest::SHA256, self.0.as_bytes()).as_ref().to_vec()
    }

    /// Builds the URL of the page where the invited user accepts.
    pub(super) fn link(&self, public_url: &str) -> String {
        format!("{public_url}/accept-invitation?token={}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_depends_on_secret_invitation_and_rotation() {
        let (id, other) = (InvitationId::new(), InvitationId::new());
        let keys = |keys: &[&[u8]]| SecretKeys::new(keys.iter().map(|key| key.to_vec()).collect());
        let hash = |key: &[u8], id, rotation| Token::of(&keys(&[key]), id, rotation).hash();
        let token = Token::of(&keys(&[b"one"]), id, 0);
        let rotated = keys(&[b"two", b"one"]);
        let found = Token::known_as(&token.hash(), &rotated, id, 0).map(|found| found.0);
        assert_eq!(found.as_ref(), Some(&token.0));
        assert!(Token::known_as(&token.hash(), &rotated, id, 1).is_none());
        assert_eq!(Token::of(&rotated, id, 0).hash(), hash(b"two", id, 0));
        assert_eq!(token.hash().len(), 32);
        assert_eq!(token.0.len(), 43);
        assert_eq!(Token::shown(&format!(" {}\n", token.0)).hash(), token.hash());
        let hashes =
            [hash(b"one", id, 0), hash(b"one", id, 1), hash(b"one", other, 0), hash(b"two", id, 0)];
        assert_eq!(hashes[0], token.hash());
        assert!((1..4).all(|n| hashes[n] != hashes[0]));
    }
}
