//! Limits how many requests run and wait at the same time, for each organization and for everyone
//! else. Only the database decides which organization a request belongs to. A caller that the
//! database let into an organization before is treated as a member. So no caller can use the
//! capacity of an organization that it is not in.
//!
//! All other callers share a small capacity, and so do new documents, which are expensive to parse.
//! Within the shared capacity each caller runs one request at a time, so a caller is never more
//! than one request ahead of another. Callers that name an organization may be members on their
//! first request, so they do not queue behind callers that name none.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use entity::OrganizationId;
use parking_lot::Mutex;
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

/// How many requests may run and wait at the same time.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// Running requests of one organization.
    pub running: usize,
    /// Running requests of all callers that name no organization. The same number again is for
    /// callers that name one and are not known to be members.
    pub outside: usize,
    /// New documents that are parsed, and introspection queries that are answered.
    pub reading: usize,
    /// Requests of one organization, or of one caller, that wait in one queue.
    pub waiting: usize,
    /// How long a request waits.
    pub wait: Duration,
}

/// Identifies a queue. Users and addresses are hashed. On a hash collision two of them share a
/// queue and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Organization(OrganizationId),
    /// One user, or one address without a token. It runs one request at a time in the queues below.
    One(u64),
    /// Callers that name an organization of which they are not known to be members.
    Arriving,
    /// Callers that name no organization.
    Outside,
    /// New documents, which were not parsed before.
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

    /// Each caller waits for a shared permit with one request at a time, so that time alone limits
    /// how many do: the first requests of all users after a restart are a burst as well.
    fn waiting_for(&self, key: Key) -> usize {
        match key {
            Key::Organization(_) | Key::One(_) => self.waiting,
            Key::Arriving | Key::Outside | Key::Reading => usize::MAX,
        }
    }
}

#[derive(Debug)]
struct Queue {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Admits requests; cheap to clone.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimiter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: AdmissionLimits,
    queues: Mutex<HashMap<Key, Arc<Queue>>>,
    hasher: RandomState,
}

impl ConcurrencyLimiter {
    /// Starts with no request running.
    #[must_use]
    pub fn new(limits: AdmissionLimits) -> Self {
        Self(Arc::new(Shared { limits, queues: Mutex::default(), hasher: RandomState::new() }))
    }

    /// Waits until the request may run. It counts for the organization of which the caller is known
    /// to be a member, or else for the capacity that all other callers share. `organization` is
    /// called again after a wait, because an earlier request of the caller may have changed it.
    pub(crate) async fn acquire(
        &self,
        caller: &Caller,
        destination: &Destination,
        organization: impl Fn() -> Option<OrganizationId>,
    ) -> Result<ConcurrencyPermit> {
        if let Some(organization) = organization() {
            return self.wait(Key::Organization(organization)).await;
        }
        let alone = self.alone(Source { caller: Some(caller), address: None }).await?;
        if let Some(organization) = organization() {
            drop(alone);
            return self.wait(Key::Organization(organization)).await;
        }
        let names_one = destination.slug.is_some() || caller.organization.is_some();
        let shared = if names_one { Key::Arriving } else { Key::Outside };
        self.acquire_shared(alone, shared).await
    }

    /// Waits until a new document may be parsed, or introspection answered.
    ///
    /// # Errors
    ///
    /// When too many requests wait already, or the wait takes too long.
    pub async fn acquire_reading(&self, source: Source<'_>) -> Result<ConcurrencyPermit> {
        let alone = self.alone(source).await?;
        self.acquire_shared(alone, Key::Reading).await
    }

    /// Waits until the caller has no other request among those that all callers share.
    async fn alone(&self, source: Source<'_>) -> Result<ConcurrencyPermit> {
        let caller = source.caller.map(|caller| (&caller.issuer, &caller.subject));
        let address = source.address.filter(|_| caller.is_none()).map(network);
        self.wait(Key::One(self.0.hasher.hash_one((caller, address)))).await
    }

    async fn acquire_shared(
        &self,
        alone: ConcurrencyPermit,
        shared: Key,
    ) -> Result<ConcurrencyPermit> {
        let mut admitted = self.wait(shared).await?;
        admitted.alone = Some(Box::new(alone));
        Ok(admitted)
    }

    /// A permit of an organization, if one is free.
    pub(crate) fn try_acquire_own(
        &self,
        organization: OrganizationId,
    ) -> Option<ConcurrencyPermit> {
        let (mut admitted, queue) = self.begin(Key::Organization(organization));
        admitted.permit = Some(Arc::clone(&queue.permits).try_acquire_owned().ok()?);
        Some(admitted)
    }

    /// Waits for a permit of an organization.
    pub(crate) async fn acquire_own(
        &self,
        organization: OrganizationId,
    ) -> Result<ConcurrencyPermit> {
        self.wait(Key::Organization(organization)).await
    }

    /// How many requests run now, and how many wait.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        self.0.queues.lock().iter().fold((0, 0), |(running, waiting), (key, queue)| {
            let free = queue.permits.available_permits();
            let taken = match key {
                // These hold no session.
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
        if waiting.0.waiting.fetch_add(1, Ordering::Relaxed) >= self.0.limits.waiting_for(key) {
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

    /// Returns the permit before the queue, so that callers drop the queue first. Dropping the
    /// permit removes the queue from the map if no other reference exists.
    fn begin(&self, key: Key) -> (ConcurrencyPermit, Arc<Queue>) {
        let queue = Arc::clone(self.0.queues.lock().entry(key).or_insert_with(|| {
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

/// The error for a request over the limit; `throttle` applies to organizations.
fn too_many(key: Key, throttle: Throttle) -> Error {
    let throttle = match key {
        Key::Organization(_) => throttle,
        _ => Throttle::Shared,
    };
    Error::RateLimited { throttle, retry_after: 1 }
}

/// The permission to run; returned when it is dropped.
#[derive(Debug)]
pub struct ConcurrencyPermit {
    key: Key,
    queue: Option<Arc<Queue>>,
    permit: Option<OwnedSemaphorePermit>,
    /// The caller's only permission in the shared queues; ends together with this one.
    alone: Option<Box<ConcurrencyPermit>>,
    limiter: ConcurrencyLimiter,
}

impl ConcurrencyPermit {
    /// Whether it counts for this organization.
    pub fn is_of(&self, organization: OrganizationId) -> bool {
        self.key == Key::Organization(organization)
    }
}

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut queues = self.limiter.0.queues.lock();
        drop(self.queue.take());
        // Only the map still refers to the queue, so no request runs or waits here.
        if queues.get(&self.key).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            queues.remove(&self.key);
        }
    }
}

/// Counts one waiting request while it lives.
struct Waiting(Arc<Queue>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt;

    use super::*;

    fn caller(subject: &str) -> Caller {
        Caller { subject: subject.to_owned(), ..Caller::default() }
    }

    fn limiter() -> ConcurrencyLimiter {
        let wait = Duration::from_mins(1);
        ConcurrencyLimiter::new(AdmissionLimits {
            running: 8,
            outside: 1,
            reading: 1,
            waiting: 1,
            wait,
        })
    }

    #[tokio::test]
    async fn requests_of_a_caller_follow_the_first_into_its_organization() {
        let (limiter, member) = (limiter(), caller("member"));
        let acme = Destination { slug: Some("acme".to_owned()), client_ip: None };
        let organization = OrganizationId(uuid::Uuid::from_u128(1));
        let known = Cell::new(None);
        let first = limiter.acquire(&member, &acme, || known.get()).await.unwrap();
        let mut second = Box::pin(limiter.acquire(&member, &acme, || known.get()));
        assert!(second.as_mut().now_or_never().is_none());
        // Another caller is the next of those who arrive, and stays.
        let stranger = caller("stranger");
        let mut arriving = Box::pin(limiter.acquire(&stranger, &acme, || None));
        assert!(arriving.as_mut().now_or_never().is_none());
        known.set(Some(organization));
        drop(first);
        let _arrived = arriving.as_mut().now_or_never().expect("a permit is free").unwrap();
        let second = second.as_mut().now_or_never().expect("it needs no shared permit").unwrap();
        assert!(second.is_of(organization));
    }

    #[tokio::test]
    async fn any_number_of_callers_waits_for_a_shared_turn_with_one_request_each() {
        let limiter = limiter();
        let nowhere = Destination { slug: None, client_ip: None };
        let callers: Vec<_> = (0..1_000).map(|number| caller(&number.to_string())).collect();
        // The runtime would interrupt a task that polls as many as these.
        let admitted = |caller| {
            Box::pin(tokio::task::unconstrained(limiter.acquire(caller, &nowhere, || None)))
        };
        let mut permits: Vec<_> = callers.iter().map(admitted).collect();
        let mut running = permits[0].as_mut().now_or_never().expect("the first").unwrap();
        for admitted in &mut permits[1..] {
            assert!(admitted.as_mut().now_or_never().is_none());
        }
        // Of one of them, one more waits and the next is refused.
        let mut more = Box::pin(limiter.acquire(&callers[1], &nowhere, || None));
        assert!(more.as_mut().now_or_never().is_none());
        let refused = limiter.acquire(&callers[1], &nowhere, || None).await;
        assert!(matches!(refused, Err(Error::RateLimited { throttle: Throttle::Shared, .. })));
        for admitted in &mut permits[1..] {
            drop(running);
            running = admitted.as_mut().now_or_never().expect("in order").unwrap();
        }
    }
}
