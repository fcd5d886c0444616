//! Dataloaders that belong to one request and run inside its future.
//!
//! A batch is not a task of the runtime: the request's own future drives it. Batches need no timer,
//! because they start only when no resolver can proceed without them. No batch outlives its
//! transaction.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use async_graphql::{
    dataloader::{DataLoader, HashMapCache},
    runtime::Timer,
};
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, ready},
    stream::FuturesUnordered,
    task::{FutureObj, Spawn, SpawnError},
};
use parking_lot::Mutex;

use crate::{
    error::{Error, Result},
    tenancy::{Access, Session, Transaction},
};

/// Implements `Loader<Key>`. Each area defines a key type for each of its look-ups.
#[derive(Debug)]
pub struct Reader(Weak<Session>);

impl Reader {
    /// Returns the request's session.
    ///
    /// # Errors
    ///
    /// Fails when the request is over.
    pub fn session(&self) -> Result<Arc<Session>> {
        self.0.upgrade().ok_or_else(|| Error::internal("a dataloader ran after its request"))
    }
}

/// The request's loader.
pub type Loaders = DataLoader<Reader, HashMapCache>;

/// Creates loaders whose batches `queue` drives. A query reads one snapshot, so its loaded rows
/// stay valid. In a mutation, a later field may have changed them.
#[must_use]
pub fn request_loaders(session: &Arc<Session>, queue: Queue, access: Access) -> Loaders {
    let reader = Reader(Arc::downgrade(session));
    let loaders = DataLoader::with_cache(reader, queue, Immediately, HashMapCache::default());
    loaders.enable_all_cache(access == Access::Read);
    loaders
}

/// A timer without delay: the queue waits exactly as long as resolvers still add keys to a batch.
struct Immediately;

impl Timer for Immediately {
    fn delay(&self, _: Duration) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }
}

/// The batches that wait to be driven.
#[derive(Clone, Debug, Default)]
pub struct Queue(Arc<Mutex<VecDeque<FutureObj<'static, ()>>>>);

impl Spawn for Queue {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.0.lock().push_back(future);
        Ok(())
    }
}

impl Queue {
    /// Runs `main` to completion, together with the batches that it waits for.
    ///
    /// Pipelined statements are in flight together, so batches start only after all of them have
    /// been answered. A batch that started earlier would miss the keys of resolvers that still wait
    /// for their rows. All waiting batches then start together.
    pub async fn drive<T>(
        &self,
        transaction: &Transaction,
        mut main: Pin<&mut impl Future<Output = T>>,
    ) -> T {
        let mut batches = FuturesUnordered::new();
        poll_fn(|context| {
            loop {
                if let Poll::Ready(output) = main.as_mut().poll(context) {
                    return Poll::Ready(output);
                }
                if batches.is_empty() && transaction.is_idle() {
                    batches.extend(self.0.lock().drain(..));
                }
                match batches.poll_next_unpin(context) {
                    // Its waiters can proceed and may add keys.
                    Poll::Ready(Some(())) => {}
                    Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }
}
