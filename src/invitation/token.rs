//! The token of an invitation: recomputed when it is sent, so that the database holds only its
//! hash.

use aws_lc_rs::{digest, hmac};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use entity::InvitationId;

use crate::tenancy::SecretKeys;

/// What opens an invitation: HMAC-SHA256 of its id and rotation.
pub(super) struct Token(String);

impl Token {
    /// The token that an invitation gets after so many rotations, made with the newest key; the
    /// ones before are good no more.
    pub(super) fn of(keys: &SecretKeys, id: InvitationId, rotation: i32) -> Self {
        Self::with(keys.newest(), id, rotation)
    }

    /// The token that an invitation has: the one of which the database keeps this hash, whichever
    /// key has made it. `None` when none of the keys has.
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

    /// What somebody shows for a token.
    pub(super) fn shown(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// What the database knows of it: SHA-256.
    pub(super) fn hash(&self) -> Vec<u8> {
        digest::digest(&digest::SHA256, self.0.as_bytes()).as_ref().to_vec()
    }

    /// Where the invited person opens it.
    pub(super) fn link(&self, public_url: &str) -> String {
        format!("{public_url}/accept-invitation?token={}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_key_s_the_invitation_s_and_the_rotation_s() {
        let (id, other) = (InvitationId::new(), InvitationId::new());
        let keys = |keys: &[&[u8]]| SecretKeys(keys.iter().map(|key| key.to_vec()).collect());
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
