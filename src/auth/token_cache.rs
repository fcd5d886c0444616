//! Tokens that were verified before: everything about them is checked once, but for the times,
//! which are on every use.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};
use lru::LruCache;

use super::{jwt::Caller, times::Times};

const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// What a good token says.
#[derive(Clone, Debug)]
pub(super) struct CachedToken {
    pub(super) caller: Arc<Caller>,
    pub(super) times: Times,
}

/// What tokens say, by their hash, with the generation of the keys that vouched for them.
pub(super) struct TokenCache(Mutex<LruCache<[u8; 32], (u64, CachedToken)>>);

impl TokenCache {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(CAPACITY)))
    }

    /// What it says, if keys of this generation vouch for it.
    pub(super) fn get(&self, token: &str, generation: u64) -> Option<CachedToken> {
        let key = key(token);
        let mut cache = self.lock();
        let (vouched_by, vouched) = cache.get(&key)?;
        (*vouched_by == generation).then(|| vouched.clone())
    }

    pub(super) fn put(&self, token: &str, generation: u64, vouched: CachedToken) {
        self.lock().put(key(token), (generation, vouched));
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
