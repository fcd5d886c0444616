//! Operations that were read before: a program sends the same few again and again, and reading one takes longer than executing it.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;

use super::document::Operation;

/// Operations that are remembered, and the longest document: anybody with a token can send what they like.
const MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);
const LONGEST: usize = 8 * 1024;

/// Operations by the document that they are in, and their name in it. Only what may be executed is remembered.
pub struct Known(Mutex<Operations>);

/// A document, and the name of the operation that was asked for.
pub type Key = (String, Option<String>);
type Operations = LruCache<Key, Arc<Operation>>;

impl std::fmt::Debug for Known {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Known").finish_non_exhaustive()
    }
}

impl Default for Known {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MOST)))
    }
}

impl Known {
    /// The operation, if it was read before.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Operation>> {
        self.lock().get(key).cloned()
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
