//! Turns: how many requests of one organization run, and how many wait, at the same time. The
//! database alone says which organization a request is for; a caller whom it let into one before is
//! treated as a member. So no caller takes the turns of an organization that it is not in.
//!
//! All other callers share a few turns, and so do new documents, which take time to read. A caller
//! first waits until it has no other request among them, then for one of the shared turns: so it
//! has at most one request in front of another caller, however many it sends. Callers that name an
//! organization may be members on their way in, and do not wait behind callers that name none.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use entity::OrganizationId;
use lru::LruCache;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{Source, rate_limiter::network};
use crate::{
    auth::Caller,
    error::{Error, Result},
    rate_limit::Throttle,
    tenancy::Destination,
};

/// Ways into organizations that are remembered.
const KNOWN: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");

/// How much may run, and wait, at the same time.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// Requests of one organization that run at the same time.
    pub running: usize,
    /// Requests of all callers outside organizations that run at the same time, and as many of
    /// callers who name one and were not let in yet.
    pub outside: usize,
    /// New documents that are read, and introspections that are answered, at the same time.
    pub reading: usize,
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// How long one waits.
    pub wait: Duration,
}

/// Whose turn it is. Users and addresses are known by hashes: two with one hash share their turns,
/// and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Organization(OrganizationId),
    /// One user, or one address without a token: it has one turn at a time of those below.
    One(u64),
    /// Callers who name an organization that they were not let into before.
    Arriving,
    /// Callers who name no organization.
    Outside,
    /// Documents that were not read before.
    Reading,
}

impl AdmissionLimits {
    fn permits_of(&self, key: Key) -> usize {
        match key {
            Key::Organization(_) => self.running,
            Key::One(_) => 1,
            Key::Arriving | Key::Outside => self.outside,
            Key::Reading => self.reading,
        }
    }
}

#[derive(Debug)]
struct Queue {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Gives turns; cheap to clone.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimiter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: AdmissionLimits,
    queues: Mutex<HashMap<Key, Arc<Queue>>>,
    known: Mutex<LruCache<u64, OrganizationId>>,
    hasher: RandomState,
}

impl ConcurrencyLimiter {
    /// Nobody has a turn yet.
    #[must_use]
    pub fn new(limits: AdmissionLimits) -> Self {
        Self(Arc::new(Shared {
            limits,
            queues: Mutex::default(),
            known: Mutex::new(LruCache::new(KNOWN)),
            hasher: RandomState::new(),
        }))
    }

    /// Waits for a turn: of the organization that the caller was let into on this way before, else
    /// one of those that all other callers share.
    ///
    /// # Errors
    ///
    /// When too many wait already, or the turn does not come in time.
    pub async fn acquire(
        &self,
        caller: &Caller,
        destination: &Destination,
    ) -> Result<ConcurrencyPermit> {
        if let Some(organization) = self.known(caller, destination) {
            return self.wait(Key::Organization(organization)).await;
        }
        let names_one = destination.slug.is_some() || caller.organization.is_some();
        let shared = if names_one { Key::Arriving } else { Key::Outside };
        let source = Source { caller: Some(caller), address: None };
        self.acquire_shared(source, shared).await
    }

    /// Waits for a turn to read a document that was not read before, or to answer introspection.
    ///
    /// # Errors
    ///
    /// As [`admitted`](Self::turn).
    pub async fn acquire_reading(&self, source: Source<'_>) -> Result<ConcurrencyPermit> {
        self.acquire_shared(source, Key::Reading).await
    }

    async fn acquire_shared(&self, source: Source<'_>, shared: Key) -> Result<ConcurrencyPermit> {
        let caller = source.caller.map(|caller| (&caller.issuer, &caller.subject));
        let address = source.address.filter(|_| caller.is_none()).map(network);
        let alone = self.wait(Key::One(self.0.hasher.hash_one((caller, address)))).await?;
        let mut admitted = self.wait(shared).await?;
        admitted.alone = Some(Box::new(alone));
        Ok(admitted)
    }

    /// Where this way led before.
    #[must_use]
    pub fn known(&self, caller: &Caller, destination: &Destination) -> Option<OrganizationId> {
        lock(&self.0.known).get(&self.way(caller, destination)).copied()
    }

    /// Remembers where this way leads.
    pub fn remember(
        &self,
        caller: &Caller,
        destination: &Destination,
        organization: OrganizationId,
    ) {
        lock(&self.0.known).put(self.way(caller, destination), organization);
    }

    /// Forgets where this way led: it does so no more.
    pub fn forget(&self, caller: &Caller, destination: &Destination) {
        lock(&self.0.known).pop(&self.way(caller, destination));
    }

    /// A turn of an organization, if one is free.
    #[must_use]
    pub fn try_acquire_own(&self, organization: OrganizationId) -> Option<ConcurrencyPermit> {
        let (mut admitted, queue) = self.begin(Key::Organization(organization));
        admitted.permit = Some(Arc::clone(&queue.permits).try_acquire_owned().ok()?);
        Some(admitted)
    }

    /// Waits for a turn of an organization.
    ///
    /// # Errors
    ///
    /// As [`admitted`](Self::turn).
    pub async fn acquire_own(&self, organization: OrganizationId) -> Result<ConcurrencyPermit> {
        self.wait(Key::Organization(organization)).await
    }

    fn way(&self, caller: &Caller, destination: &Destination) -> u64 {
        let Caller { issuer, subject, organization, .. } = caller;
        self.0.hasher.hash_one((issuer, subject, organization, &destination.slug))
    }

    /// How many have a turn now, and how many wait for one.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        lock(&self.0.queues).iter().fold((0, 0), |(running, waiting), (key, queue)| {
            let free = queue.permits.available_permits();
            let taken = match key {
                // No session is open for these.
                Key::One(_) | Key::Reading => 0,
                key => self.0.limits.permits_of(*key).saturating_sub(free),
            };
            (running + taken, waiting + queue.waiting.load(Ordering::Relaxed))
        })
    }

    async fn wait(&self, key: Key) -> Result<ConcurrencyPermit> {
        let (mut admitted, queue) = self.begin(key);
        let permits = Arc::clone(&queue.permits);
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            admitted.permit = Some(permit);
            return Ok(admitted);
        }
        let waiting = Waiting(queue);
        if waiting.0.waiting.fetch_add(1, Ordering::Relaxed) >= self.0.limits.waiting {
            return Err(too_many(key, Throttle::Waiting));
        }
        match timeout(self.0.limits.wait, permits.acquire_owned()).await {
            Ok(permit) => {
                admitted.permit = Some(permit.map_err(Error::internal)?);
                Ok(admitted)
            }
            Err(_) => Err(too_many(key, Throttle::Running)),
        }
    }

    /// In this order: the gate is to be dropped before the turn, which looks for others.
    fn begin(&self, key: Key) -> (ConcurrencyPermit, Arc<Queue>) {
        let queue = Arc::clone(lock(&self.0.queues).entry(key).or_insert_with(|| {
            let permits = Arc::new(Semaphore::new(self.0.limits.permits_of(key)));
            Arc::new(Queue { permits, waiting: AtomicUsize::new(0) })
        }));
        let limiter = self.clone();
        let admitted = ConcurrencyPermit {
            key,
            queue: Some(Arc::clone(&queue)),
            permit: None,
            alone: None,
            limiter,
        };
        (admitted, queue)
    }
}

/// The refusal of one more; `throttle` is what an organization has too much of.
fn too_many(key: Key, throttle: Throttle) -> Error {
    let throttle = match key {
        Key::Organization(_) => throttle,
        _ => Throttle::Shared,
    };
    Error::RateLimited { throttle, retry_after: 1 }
}

/// The right to run; given back when it is dropped.
#[derive(Debug)]
pub struct ConcurrencyPermit {
    key: Key,
    queue: Option<Arc<Queue>>,
    permit: Option<OwnedSemaphorePermit>,
    /// The caller's only turn among those that all callers share; ends with this one.
    alone: Option<Box<ConcurrencyPermit>>,
    limiter: ConcurrencyLimiter,
}

impl ConcurrencyPermit {
    /// Whether it is a turn of this organization.
    #[must_use]
    pub fn is_of(&self, organization: OrganizationId) -> bool {
        self.key == Key::Organization(organization)
    }
}

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut queues = lock(&self.limiter.0.queues);
        drop(self.queue.take());
        // Only the map's own: nobody runs here, and nobody waits.
        if queues.get(&self.key).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            queues.remove(&self.key);
        }
    }
}

/// Somebody who waits.
struct Waiting(Arc<Queue>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
