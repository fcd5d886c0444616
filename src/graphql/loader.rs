//! Dataloaders that live and die with their request, and run inside it.
//!
//! A loader's batch is no task of the runtime: the request's own future drives it. Batches are full
//! without a timer, because they start only when no resolver can go on without them, and none
//! outlives its transaction.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
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

use crate::{
    error::{Error, Result},
    tenancy::{Access, Session, Transaction},
};

/// What areas implement `Loader<Key>` for, a key type for each look-up.
#[derive(Debug)]
pub struct Reader(Weak<Session>);

impl Reader {
    /// The request's session.
    ///
    /// # Errors
    ///
    /// When the request is over.
    pub fn session(&self) -> Result<Arc<Session>> {
        self.0.upgrade().ok_or_else(|| Error::internal("a loader ran after its request"))
    }
}

type RequestLoader = DataLoader<Reader, HashMapCache>;

/// The request's loader; a new one after the session has entered an organization, because what was
/// loaded before belongs to another.
pub struct Loaders {
    session: Arc<Session>,
    queue: Queue,
    access: Access,
    current: Mutex<(u32, Arc<RequestLoader>)>,
}

impl std::fmt::Debug for Loaders {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Loaders").finish_non_exhaustive()
    }
}

impl Loaders {
    /// Loaders whose batches `queue` drives.
    #[must_use]
    pub fn new(session: Arc<Session>, queue: Queue, access: Access) -> Self {
        let current = Mutex::new((session.entered(), new_loader(&session, &queue, access)));
        Self { session, queue, access, current }
    }

    pub(super) fn current(&self) -> Arc<RequestLoader> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let entered = self.session.entered();
        if current.0 != entered {
            *current = (entered, new_loader(&self.session, &self.queue, self.access));
        }
        Arc::clone(&current.1)
    }
}

/// A query has one snapshot, so what was loaded stays true; a mutation's next field may have
/// changed it.
fn new_loader(session: &Arc<Session>, queue: &Queue, access: Access) -> Arc<RequestLoader> {
    let reader = Reader(Arc::downgrade(session));
    let cache = HashMapCache::default();
    let loader = DataLoader::with_cache(reader, queue.clone(), Immediately, cache);
    loader.enable_all_cache(access == Access::Read);
    Arc::new(loader)
}

/// No delay: the queue waits for exactly as long as resolvers still add to a batch.
struct Immediately;

impl Timer for Immediately {
    fn delay(&self, _: Duration) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }
}

/// The batches that wait to be driven.
#[derive(Clone, Default)]
pub struct Queue(Arc<Mutex<VecDeque<FutureObj<'static, ()>>>>);

impl std::fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Spawn for Queue {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.lock().push_back(future);
        Ok(())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<FutureObj<'static, ()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `main` to its end, and with it the batches that it waits for.
    ///
    /// Statements that were begun early are on their way together, so batches wait until all of
    /// them were answered: one that began earlier would miss the keys of those who still wait for
    /// their rows. Then all that wait begin at once.
    pub async fn drive<T>(&self, transaction: &Transaction, main: impl Future<Output = T>) -> T {
        let mut main = pin!(main);
        let mut batches = FuturesUnordered::new();
        poll_fn(|context| {
            loop {
                if let Poll::Ready(output) = main.as_mut().poll(context) {
                    return Poll::Ready(output);
                }
                if batches.is_empty() && transaction.is_idle() {
                    batches.extend(self.lock().drain(..));
                }
                match batches.poll_next_unpin(context) {
                    // Its waiters can go on, which may bring more.
                    Poll::Ready(Some(())) => {}
                    Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }
}
