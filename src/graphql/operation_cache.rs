//! Operations that were read before: a program sends the same few again and again, and reading one
//! takes longer than executing it.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;

use super::document::Operation;

/// Operations that are remembered, and the longest document: anybody with a token can send what
/// they like.
const MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);
const LONGEST: usize = 8 * 1024;

/// What they may take together, in bytes, by a rough reckoning: fragments are remembered spread
/// out, so that a short document may be a large operation.
const MOST_BYTES: usize = 64 * 1024 * 1024;
const BYTES_OF_SELECTION: usize = 250;
const BYTES_OF_LETTER: usize = 60;

/// Operations by the document that they are in, and their name in it. Only what may be executed is
/// remembered.
pub struct OperationCache(Mutex<Operations>);

/// A document, and the name of the operation that was asked for.
pub type Key = (String, Option<String>);

struct Operations {
    by_key: LruCache<Key, Arc<Operation>>,
    bytes: usize,
}

impl Operations {
    fn put(&mut self, key: Key, operation: Arc<Operation>) {
        self.bytes += bytes(&key, &operation);
        let mut given_up = self.by_key.push(key, operation);
        if given_up.is_none() && self.bytes > MOST_BYTES {
            given_up = self.by_key.pop_lru();
        }
        while let Some((key, operation)) = given_up {
            self.bytes -= bytes(&key, &operation);
            given_up = if self.bytes > MOST_BYTES { self.by_key.pop_lru() } else { None };
        }
    }
}

fn bytes((document, _): &Key, operation: &Operation) -> usize {
    BYTES_OF_SELECTION * operation.selections + BYTES_OF_LETTER * document.len()
}

impl std::fmt::Debug for OperationCache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Known").finish_non_exhaustive()
    }
}

impl Default for OperationCache {
    fn default() -> Self {
        Self(Mutex::new(Operations { by_key: LruCache::new(MOST), bytes: 0 }))
    }
}

impl OperationCache {
    /// The operation, if it was read before.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Operation>> {
        self.lock().by_key.get(key).cloned()
    }

    /// Remembers an operation, unless its document is long.
    pub fn put(&self, key: Key, operation: &Arc<Operation>) {
        if key.0.len() <= LONGEST {
            self.lock().put(key, Arc::clone(operation));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Operations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
