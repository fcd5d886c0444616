//! Dataloaders that live and die with their request, and run inside it.
//!
//! A loader's batch is no task of the runtime: the request's own future drives it. Batches are full without a timer,
//! because they start only when no resolver can go on without them, and none outlives its transaction.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, PoisonError, Weak},
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
    tenancy::Session,
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
    pub fn new(session: Arc<Session>, queue: Queue) -> Self {
        let current = Mutex::new((session.entered(), new_loader(&session, &queue)));
        Self { session, queue, current }
    }

    pub(super) fn current(&self) -> Arc<RequestLoader> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let entered = self.session.entered();
        if current.0 != entered {
            *current = (entered, new_loader(&self.session, &self.queue));
        }
        Arc::clone(&current.1)
    }
}

fn new_loader(session: &Arc<Session>, queue: &Queue) -> Arc<RequestLoader> {
    let reader = Reader(Arc::downgrade(session));
    let cache = HashMapCache::default();
    Arc::new(DataLoader::with_cache(reader, queue.clone(), Immediately, cache))
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
pub struct Queue(Arc<Mutex<Vec<FutureObj<'static, ()>>>>);

impl std::fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Spawn for Queue {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.lock().push(future);
        Ok(())
    }
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<FutureObj<'static, ()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `main` to its end, and with it the batches that it waits for.
    pub async fn drive<T>(&self, main: impl Future<Output = T>) -> T {
        let mut main = pin!(main);
        let mut running = FuturesUnordered::new();
        poll_fn(|context| {
            loop {
                if let Poll::Ready(output) = main.as_mut().poll(context) {
                    return Poll::Ready(output);
                }
                running.extend(self.lock().drain(..));
                let mut progressed = false;
                while let Poll::Ready(Some(())) = running.poll_next_unpin(context) {
                    progressed = true;
                }
                // Otherwise a batch has woken its waiters, or asked another loader.
                if !progressed && self.lock().is_empty() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}
