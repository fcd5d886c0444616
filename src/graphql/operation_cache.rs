//! A cache of validated operations. Programs repeat the same few operations, and validating one
//! takes longer than executing it.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;

use super::document::Operation;

/// The maximum number of operations, and the longest document to cache. Any client with a token can
/// send arbitrary documents.
const MAX_OPERATIONS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);
const MAX_DOCUMENT_BYTES: usize = 8 * 1024;

/// The maximum memory of all operations, in bytes, as a rough estimate. Cached operations have
/// their fragments spread, so a short document can be a large operation.
const MAX_BYTES: usize = 64 * 1024 * 1024;
const BYTES_OF_SELECTION: usize = 250;
const BYTES_OF_CHARACTER: usize = 60;

/// The cached operations by document and operation name. Only executable operations are cached.
pub struct OperationCache(Mutex<Operations>);

/// A document, and the name of the operation to execute.
pub type Key = (String, Option<String>);

struct Operations {
    by_key: LruCache<Key, Arc<Operation>>,
    bytes: usize,
}

impl Operations {
    fn put(&mut self, key: Key, operation: Arc<Operation>) {
        self.bytes += bytes(&key, &operation);
        let mut evicted = self.by_key.push(key, operation);
        if evicted.is_none() && self.bytes > MAX_BYTES {
            evicted = self.by_key.pop_lru();
        }
        while let Some((key, operation)) = evicted {
            self.bytes -= bytes(&key, &operation);
            evicted = if self.bytes > MAX_BYTES { self.by_key.pop_lru() } else { None };
        }
    }
}

fn bytes((document, _): &Key, operation: &Operation) -> usize {
    BYTES_OF_SELECTION * operation.selections + BYTES_OF_CHARACTER * document.len()
}

impl std::fmt::Debug for OperationCache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OperationCache").finish_non_exhaustive()
    }
}

impl Default for OperationCache {
    fn default() -> Self {
        Self(Mutex::new(Operations { by_key: LruCache::new(MAX_OPERATIONS), bytes: 0 }))
    }
}

impl OperationCache {
    /// Returns a cached operation.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Operation>> {
        self.lock().by_key.get(key).cloned()
    }

    /// Caches an operation, unless its document is long.
    pub fn put(&self, key: Key, operation: &Arc<Operation>) {
        if key.0.len() <= MAX_DOCUMENT_BYTES {
            self.lock().put(key, Arc::clone(operation));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Operations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
