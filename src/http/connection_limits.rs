//! Limits the number of client connections, in total and per address. At a limit, the connection
//! that has been idle the longest is closed for a new one.
//!
//! Some slots are reserved for health checks, so that a full server does not look dead. If nothing
//! can be closed, a new connection gets a reserved slot: health checks are served, and other
//! requests get 503.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hyper_util::server::graceful::Watcher;
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::admission::network;

/// Slots for health checks, in addition to those of clients.
const RESERVED: usize = 32;

/// A connection idle for less than this may be about to send a request.
pub const MIN_IDLE: Duration = Duration::from_secs(1);

/// How many idle connections one scan of all connections collects.
const CANDIDATES: usize = 64;

/// Limits on client connections and their timeouts.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// Open connections.
    pub connections: usize,
    /// Open connections per address (for IPv6, per /64 network). Trusted proxies are exempt.
    pub connections_by_address: usize,
    /// Until the headers of the first request have arrived.
    pub header_timeout: Duration,
    /// Between two requests, until the headers of the next one have arrived.
    pub idle_timeout: Duration,
    /// For a WebSocket without a running operation.
    pub websocket_idle_timeout: Duration,
    /// For an HTTP/2 client that accepts no bytes of a response.
    pub stall_timeout: Duration,
    /// How long a connection must be idle before it may be closed for another.
    pub min_idle: Duration,
}

/// The connection slots of a server.
pub(super) struct ConnectionSlots {
    limits: ClientLimits,
    trusted_proxies: Vec<IpNet>,
    /// The origin of `idle_since`.
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    taken: usize,
    by_address: HashMap<IpAddr, HashMap<u64, Arc<Occupant>>>,
    reserved: HashMap<u64, Arc<Occupant>>,
    /// The longest idle connections of the last scan. The longest idle one is last.
    candidates: Vec<(u64, Arc<Occupant>)>,
    /// The time before which another scan is not worth its cost.
    looked_until: u64,
}

/// A connection with a slot.
struct Occupant {
    id: u64,
    address: IpAddr,
    is_reserved: bool,
    began: Instant,
    /// Requests in progress, and operations of a WebSocket.
    busy: AtomicUsize,
    /// In microseconds since `began`.
    idle_since: AtomicU64,
    /// Cancelled when the slot is given to another connection or released.
    closing: CancellationToken,
}

/// A connection's slot and its shutdown guard. All tasks that serve the connection share it.
#[derive(Clone)]
pub(super) struct ConnectionSlot(Arc<SlotGuard>);

struct SlotGuard {
    places: Arc<ConnectionSlots>,
    occupant: Arc<Occupant>,
    _watcher: Watcher,
}

/// An activity of the connection. The connection is not idle until it is dropped.
pub(super) struct Busy(Arc<Occupant>);

impl Occupant {
    fn now(&self) -> u64 {
        microseconds(self.began.elapsed())
    }

    /// Since when the connection is idle, or `None` if it is busy.
    fn idle_since(&self) -> Option<u64> {
        let is_idle = self.busy.load(Ordering::Acquire) == 0 && !self.closing.is_cancelled();
        is_idle.then(|| self.idle_since.load(Ordering::Relaxed))
    }
}

impl ConnectionSlots {
    pub(super) fn new(limits: ClientLimits, trusted_proxies: Vec<IpNet>) -> Arc<Self> {
        let state = Mutex::default();
        Arc::new(Self { limits, trusted_proxies, began: Instant::now(), state })
    }

    /// Takes a slot. `None` if all slots, including the reserved ones, are taken by busy
    /// connections.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr, watcher: Watcher) -> Option<ConnectionSlot> {
        let peer = peer.to_canonical();
        let address = network(peer);
        let is_proxy = self.trusted_proxies.iter().any(|network| network.contains(&peer));
        let now = microseconds(self.began.elapsed());
        let idle_before = now.saturating_sub(microseconds(self.limits.min_idle));
        let mut state = self.state.lock();
        let is_reserved = !(is_proxy || self.has_share(&mut state, address, idle_before))
            || !self.has_room(&mut state, now, idle_before);
        if is_reserved && state.reserved.len() >= RESERVED {
            let longest = longest_idle(&state.reserved, u64::MAX)?;
            state.close(&longest);
        }
        let occupant = Arc::new(Occupant {
            id: state.next_id,
            address,
            is_reserved,
            began: self.began,
            busy: AtomicUsize::new(0),
            idle_since: AtomicU64::new(now),
            closing: CancellationToken::new(),
        });
        state.next_id += 1;
        state.enter(&occupant);
        drop(state);
        Some(ConnectionSlot(Arc::new(SlotGuard {
            places: Arc::clone(self),
            occupant,
            _watcher: watcher,
        })))
    }

    /// Closes the longest idle connection to release a resource that all connections share.
    pub(super) fn close_longest_idle(&self) {
        let mut state = self.state.lock();
        let now = microseconds(self.began.elapsed());
        if let Some(longest) = state.longest_idle(now, now) {
            state.close(&longest);
        }
    }

    /// Whether the address may open another connection. May close its longest idle one.
    fn has_share(&self, state: &mut State, address: IpAddr, idle_before: u64) -> bool {
        let Some(occupants) = state.by_address.get(&address) else { return true };
        if occupants.len() < self.limits.connections_by_address {
            return true;
        }
        let longest = longest_idle(occupants, idle_before);
        longest.is_some_and(|longest| state.close(&longest))
    }

    /// Whether a slot is free. May close the longest idle connection of all.
    fn has_room(&self, state: &mut State, now: u64, idle_before: u64) -> bool {
        state.taken < self.limits.connections
            || state.longest_idle(now, idle_before).is_some_and(|longest| state.close(&longest))
    }
}

impl State {
    fn enter(&mut self, occupant: &Arc<Occupant>) {
        let occupants = if occupant.is_reserved {
            &mut self.reserved
        } else {
            self.taken += 1;
            self.by_address.entry(occupant.address).or_default()
        };
        occupants.insert(occupant.id, Arc::clone(occupant));
    }

    /// Takes the slot away. The connection ends soon after. False if it had no slot any more.
    fn close(&mut self, occupant: &Occupant) -> bool {
        occupant.closing.cancel();
        if occupant.is_reserved {
            return self.reserved.remove(&occupant.id).is_some();
        }
        let Some(occupants) = self.by_address.get_mut(&occupant.address) else { return false };
        let had_place = occupants.remove(&occupant.id).is_some();
        if occupants.is_empty() {
            self.by_address.remove(&occupant.address);
        }
        self.taken -= usize::from(had_place);
        had_place
    }

    /// Finds the longest idle connection. One scan of all connections serves many calls.
    fn longest_idle(&mut self, now: u64, idle_before: u64) -> Option<Arc<Occupant>> {
        loop {
            while let Some((since, candidate)) = self.candidates.pop() {
                if candidate.idle_since() == Some(since) && since <= idle_before {
                    return Some(candidate);
                }
            }
            if now < self.looked_until {
                return None;
            }
            let all = self.by_address.values().flat_map(HashMap::values);
            let idle = all.filter_map(|occupant| Some((occupant.idle_since()?, occupant)));
            let mut idle: Vec<_> = idle.filter(|(since, _)| *since <= idle_before).collect();
            if idle.is_empty() {
                self.looked_until = now + microseconds(MIN_IDLE / 10);
                return None;
            }
            idle.sort_unstable_by_key(|(since, occupant)| (*since, occupant.id));
            idle.truncate(CANDIDATES);
            let idle = idle.into_iter().rev();
            self.candidates = idle.map(|(since, occupant)| (since, Arc::clone(occupant))).collect();
        }
    }
}

fn longest_idle(
    occupants: &HashMap<u64, Arc<Occupant>>,
    idle_before: u64,
) -> Option<Arc<Occupant>> {
    let idle = occupants.values().filter_map(|occupant| Some((occupant.idle_since()?, occupant)));
    let idle = idle.filter(|(since, _)| *since <= idle_before);
    idle.min_by_key(|(since, occupant)| (*since, occupant.id))
        .map(|(_, longest)| Arc::clone(longest))
}

impl ConnectionSlot {
    /// Whether this is a reserved slot.
    pub(super) fn is_reserved(&self) -> bool {
        self.0.occupant.is_reserved
    }

    /// Marks the connection as busy.
    pub(super) fn busy(&self) -> Busy {
        let occupant = Arc::clone(&self.0.occupant);
        occupant.busy.fetch_add(1, Ordering::Relaxed);
        Busy(occupant)
    }

    /// Resolves when the slot was given to another connection and this one is idle.
    pub(super) async fn given_away(&self) {
        let occupant = &self.0.occupant;
        occupant.closing.cancelled().await;
        // Rarely, a request arrived at that moment. It is answered first.
        while occupant.busy.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(MIN_IDLE / 10).await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Release);
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.places.state.lock().close(&self.occupant);
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
