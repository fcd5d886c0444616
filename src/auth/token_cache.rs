//! The cache of verified tokens. Everything but the times is verified once per token; the times are
//! checked on every use.

use std::{num::NonZeroUsize, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use lru::LruCache;
use parking_lot::Mutex;

use super::{claims::Caller, times::Times};

const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// A token that was verified.
#[derive(Clone, Debug)]
pub(super) struct CachedToken {
    pub(super) caller: Arc<Caller>,
    pub(super) times: Times,
    /// The index of the issuer, and the generation of its keys that verified the token.
    pub(super) issuer: usize,
    pub(super) generation: u64,
}

/// Verified tokens by their hash.
pub(super) struct TokenCache(Mutex<LruCache<[u8; 32], CachedToken>>);

impl TokenCache {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(CAPACITY)))
    }

    pub(super) fn get(&self, token: &str) -> Option<CachedToken> {
        self.0.lock().get(&key(token)).cloned()
    }

    pub(super) fn put(&self, token: &str, cached: CachedToken) {
        self.0.lock().put(key(token), cached);
    }
}

fn key(token: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}
