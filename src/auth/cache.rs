//! Tokens that were verified before: a signature is checked once, the times on every use.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};
use lru::LruCache;
use serde_json::{Map, Value};

const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// The claims of a token, as they were signed.
pub(super) type Claims = Arc<Map<String, Value>>;

/// Claims by the hash of their token, with the generation of the keys that vouched for them.
pub(super) struct Verified(Mutex<LruCache<[u8; 32], (u64, Claims)>>);

impl Verified {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(CAPACITY)))
    }

    /// The claims, if keys of this generation vouch for them.
    pub(super) fn get(&self, token: &str, generation: u64) -> Option<Claims> {
        let mut cache = self.lock();
        let (vouched, claims) = cache.get(&key(token))?;
        (*vouched == generation).then(|| Arc::clone(claims))
    }

    pub(super) fn put(&self, token: &str, generation: u64, claims: &Claims) {
        self.lock().put(key(token), (generation, Arc::clone(claims)));
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<[u8; 32], (u64, Claims)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(token: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}
