//! Turns: an organization has so many at a time, and so many requests that wait for one. Whose organization a request is for is known
//! only when the database has said so; who was let into one before is taken for a member of it, and everybody else waits with
//! themselves alone. So nobody takes the turns of an organization that they are not in.

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

use crate::{
    auth::Caller,
    error::{Error, Result},
    rate_limit::Throttle,
    tenancy::Destination,
};

/// Ways into organizations that are remembered.
const KNOWN: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");

/// How much one organization, person or address may ask for.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// Requests that run at the same time.
    pub running: usize,
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// How long one waits.
    pub wait: Duration,
}

/// Whose turn it is. People are known by hashes: two that share one would share their turns, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Organization(OrganizationId),
    Person(u64),
}

#[derive(Debug)]
struct Gate {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Gives turns; cheap to clone.
#[derive(Clone, Debug)]
pub struct Gates(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: AdmissionLimits,
    gates: Mutex<HashMap<Key, Arc<Gate>>>,
    known: Mutex<LruCache<u64, OrganizationId>>,
    hasher: RandomState,
}

impl Gates {
    /// Nobody has a turn yet.
    #[must_use]
    pub fn new(limits: AdmissionLimits) -> Self {
        Self(Arc::new(Shared {
            limits,
            gates: Mutex::default(),
            known: Mutex::new(LruCache::new(KNOWN)),
            hasher: RandomState::new(),
        }))
    }

    /// Waits for a turn: of the organization that the caller was let into on this way before, else of the caller alone.
    ///
    /// # Errors
    ///
    /// When too many wait already, or the turn does not come in time.
    pub async fn turn(&self, caller: &Caller, destination: &Destination) -> Result<Turn> {
        let known = self.known(caller, destination);
        let person = || Key::Person(self.0.hasher.hash_one((&caller.issuer, &caller.subject)));
        self.wait(known.map_or_else(person, Key::Organization)).await
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
    pub fn try_turn_of(&self, organization: OrganizationId) -> Option<Turn> {
        let (mut turn, gate) = self.begin(Key::Organization(organization));
        turn.permit = Some(Arc::clone(&gate.turns).try_acquire_owned().ok()?);
        Some(turn)
    }

    /// Waits for a turn of an organization.
    ///
    /// # Errors
    ///
    /// As [`turn`](Self::turn).
    pub async fn turn_of(&self, organization: OrganizationId) -> Result<Turn> {
        self.wait(Key::Organization(organization)).await
    }

    fn way(&self, caller: &Caller, destination: &Destination) -> u64 {
        let Caller { issuer, subject, organization, .. } = caller;
        self.0.hasher.hash_one((issuer, subject, organization, &destination.slug))
    }

    /// How many have a turn now, and how many wait for one.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        lock(&self.0.gates).values().fold((0, 0), |(running, waiting), gate| {
            let free = gate.turns.available_permits();
            (
                running + self.0.limits.running.saturating_sub(free),
                waiting + gate.waiting.load(Ordering::Relaxed),
            )
        })
    }

    async fn wait(&self, key: Key) -> Result<Turn> {
        let (mut turn, gate) = self.begin(key);
        let turns = Arc::clone(&gate.turns);
        if let Ok(permit) = Arc::clone(&turns).try_acquire_owned() {
            turn.permit = Some(permit);
            return Ok(turn);
        }
        let waiting = Waiting(gate);
        if waiting.0.waiting.fetch_add(1, Ordering::Relaxed) >= self.0.limits.waiting {
            return Err(Error::RateLimited { throttle: Throttle::Waiting, retry_after: 1 });
        }
        match timeout(self.0.limits.wait, turns.acquire_owned()).await {
            Ok(permit) => {
                turn.permit = Some(permit.map_err(Error::internal)?);
                Ok(turn)
            }
            Err(_) => Err(Error::RateLimited { throttle: Throttle::Running, retry_after: 1 }),
        }
    }

    /// In this order: the gate is to be dropped before the turn, which looks for others.
    fn begin(&self, key: Key) -> (Turn, Arc<Gate>) {
        let gate = Arc::clone(lock(&self.0.gates).entry(key).or_insert_with(|| {
            let turns = Arc::new(Semaphore::new(self.0.limits.running));
            Arc::new(Gate { turns, waiting: AtomicUsize::new(0) })
        }));
        let turn = Turn { key, gate: Some(Arc::clone(&gate)), permit: None, gates: self.clone() };
        (turn, gate)
    }
}

/// The right to run; given back when it is dropped.
#[derive(Debug)]
pub struct Turn {
    key: Key,
    gate: Option<Arc<Gate>>,
    permit: Option<OwnedSemaphorePermit>,
    gates: Gates,
}

impl Turn {
    /// Whether it is a turn of this organization.
    #[must_use]
    pub fn is_of(&self, organization: OrganizationId) -> bool {
        self.key == Key::Organization(organization)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut gates = lock(&self.gates.0.gates);
        drop(self.gate.take());
        // Only the map's own: nobody runs here, and nobody waits.
        if gates.get(&self.key).is_some_and(|gate| Arc::strong_count(gate) == 1) {
            gates.remove(&self.key);
        }
    }
}

/// Somebody who waits.
struct Waiting(Arc<Gate>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
