//! The cache of verified tokens. Everything but the times is verified once per token; the times are
//! checked on every use.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};
use lru::LruCache;

use super::{jwt::Caller, times::Times};

const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// A token that was verified.
#[derive(Clone, Debug)]
pub(super) struct CachedToken {
    pub(super) caller: Arc<Caller>,
    pub(super) times: Times,
}

/// Callers by the hash of their token, with the generation of the keys that verified it.
pub(super) struct TokenCache(Mutex<LruCache<[u8; 32], (u64, CachedToken)>>);

impl TokenCache {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(CAPACITY)))
    }

    /// The cached token, if keys of this generation verified it.
    pub(super) fn get(&self, token: &str, generation: u64) -> Option<CachedToken> {
        let key = key(token);
        let mut cache = self.lock();
        let (verified_by, cached) = cache.get(&key)?;
        (*verified_by == generation).then(|| cached.clone())
    }

    pub(super) fn put(&self, token: &str, generation: u64, cached: CachedToken) {
        self.lock().put(key(token), (generation, cached));
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<[u8; 32], (u64, CachedToken)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(token: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}
