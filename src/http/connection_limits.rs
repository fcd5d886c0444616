//! Places for connections of clients. An address has a share of them; when they are all taken, the
//! connection that was idle the longest is closed for the next one. A few more are kept for health
//! checks, so that a full server does not look dead: what comes in when nothing can be closed is
//! answered there, with 503 unless it is a health check.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hyper_util::server::graceful::Watcher;
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use crate::admission::network;

/// Places beyond those of clients, for health checks.
const RESERVED: usize = 32;

/// A connection that is idle for less may be about to send its first request, or the next.
pub const MIN_IDLE: Duration = Duration::from_secs(1);

/// Idle connections that are found by one look at all of them.
const CANDIDATES: usize = 64;

/// What clients may cost before they have asked for anything.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// Connections at the same time.
    pub connections: usize,
    /// Connections of one address (of IPv6: a network of 64 bits), unless it is a trusted proxy.
    pub connections_by_address: usize,
    /// For the headers of a connection's first request.
    pub header_timeout: Duration,
    /// Between two requests, until the headers of the next have come.
    pub idle_timeout: Duration,
    /// For a WebSocket without an operation.
    pub websocket_idle_timeout: Duration,
    /// For a client of HTTP/2 that takes nothing of an answer.
    pub stall_timeout: Duration,
    /// Before a connection may be closed for another one.
    pub min_idle: Duration,
}

/// The places of a server.
pub(super) struct ConnectionSlots {
    limits: ClientLimits,
    trusted_proxies: Vec<IpNet>,
    /// Where the clock of idle times begins.
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    taken: usize,
    by_address: HashMap<IpAddr, HashMap<u64, Arc<Occupant>>>,
    reserved: HashMap<u64, Arc<Occupant>>,
    /// The longest idle ones when all were looked at last, the very longest at the end.
    candidates: Vec<(u64, Arc<Occupant>)>,
    /// Until when another look is not worth its time.
    looked_until: u64,
}

/// A connection that has a place.
struct Occupant {
    id: u64,
    address: IpAddr,
    is_reserved: bool,
    began: Instant,
    /// Requests that are not answered, and operations of a WebSocket.
    busy: AtomicUsize,
    /// In microseconds.
    idle_since: AtomicU64,
    /// Cancelled when the place is given to another one, or left.
    closing: CancellationToken,
}

/// A connection's place, and its part in what a stopping server waits for; kept by all that serve
/// the connection.
#[derive(Clone)]
pub(super) struct ConnectionSlot(Arc<SlotGuard>);

struct SlotGuard {
    places: Arc<ConnectionSlots>,
    occupant: Arc<Occupant>,
    _watcher: Watcher,
}

/// Something that the connection does; until it is dropped the connection is not idle.
pub(super) struct Busy(Arc<Occupant>);

impl Occupant {
    fn now(&self) -> u64 {
        microseconds(self.began.elapsed())
    }

    /// Since when it is idle, if it is.
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

    /// A place for a connection; `None` when all are taken, the reserved ones too, by connections
    /// that are busy.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr, watcher: Watcher) -> Option<ConnectionSlot> {
        let peer = peer.to_canonical();
        let address = network(peer);
        let is_proxy = self.trusted_proxies.iter().any(|network| network.contains(&peer));
        let now = microseconds(self.began.elapsed());
        let idle_before = now.saturating_sub(microseconds(self.limits.min_idle));
        let mut state = self.lock();
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

    /// Closes the longest idle connection, for the lack of something that all of them use.
    pub(super) fn close_longest_idle(&self) {
        let mut state = self.lock();
        let now = microseconds(self.began.elapsed());
        if let Some(longest) = state.longest_idle(now, now) {
            state.close(&longest);
        }
    }

    /// Whether the address may have another one, which may cost it its longest idle one.
    fn has_share(&self, state: &mut State, address: IpAddr, idle_before: u64) -> bool {
        let Some(occupants) = state.by_address.get(&address) else { return true };
        if occupants.len() < self.limits.connections_by_address {
            return true;
        }
        let longest = longest_idle(occupants, idle_before);
        longest.is_some_and(|longest| state.close(&longest))
    }

    /// Whether there is a place, which may cost the longest idle connection of all its own.
    fn has_room(&self, state: &mut State, now: u64, idle_before: u64) -> bool {
        state.taken < self.limits.connections
            || state.longest_idle(now, idle_before).is_some_and(|longest| state.close(&longest))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Gives the place away; the connection ends soon after. False when it was given away before.
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

    /// Looks at all of them for one look's worth of candidates, not for each connection that comes.
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
    /// It is one of those for health checks.
    pub(super) fn is_reserved(&self) -> bool {
        self.0.occupant.is_reserved
    }

    /// The connection does something.
    pub(super) fn busy(&self) -> Busy {
        let occupant = Arc::clone(&self.0.occupant);
        occupant.busy.fetch_add(1, Ordering::Relaxed);
        Busy(occupant)
    }

    /// Resolves when the place was given to another connection, and this one is idle.
    pub(super) async fn given_away(&self) {
        let occupant = &self.0.occupant;
        occupant.closing.cancelled().await;
        // Rare: a request came at that very moment, and is answered.
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
        self.places.lock().close(&self.occupant);
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
