//! A cache of validated operations. Programs repeat the same few operations, and validating one
//! takes longer than executing it.

use std::{num::NonZeroUsize, sync::Arc};

use lru::LruCache;
use parking_lot::Mutex;

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
#[derive(Debug)]
pub struct OperationCache(Mutex<Operations>);

/// A document, and the name of the operation to execute.
pub type Key = (String, Option<String>);

#[derive(Debug)]
struct Operations {
    by_key: LruCache<Key, Arc<Operation>>,
    bytes: usize,
}

impl Operations {
    fn put(&mut self, key: Key, operation: Arc<Operation>) {
        self.bytes += bytes(&key, &operation);
        if let Some((key, replaced)) = self.by_key.push(key, operation) {
            self.bytes -= bytes(&key, &replaced);
        }
        while self.bytes > MAX_BYTES
            && let Some((key, evicted)) = self.by_key.pop_lru()
        {
            self.bytes -= bytes(&key, &evicted);
        }
    }
}

fn bytes((document, _): &Key, operation: &Operation) -> usize {
    BYTES_OF_SELECTION * operation.selections + BYTES_OF_CHARACTER * document.len()
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
        self.0.lock().by_key.get(key).cloned()
    }

    /// Caches an operation, unless its document is long.
    pub fn put(&self, key: Key, operation: &Arc<Operation>) {
        if key.0.len() <= MAX_DOCUMENT_BYTES {
            self.0.lock().put(key, Arc::clone(operation));
        }
    }
}
