//! Rates: how often a user, and an address, may do something in a minute. Each server counts for
//! itself.
//!
//! Memory is bounded: a user or an address is forgotten at the next sweep once its whole quota has
//! come back, which takes no longer than using it up did.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
};

use governor::{
    Quota,
    clock::{Clock, DefaultClock},
    state::keyed::HashMapStateStore,
};

use super::Source;
use crate::{
    error::{Error, Result},
    rate_limit::Throttle,
};

/// Seconds after which a whole quota has come back.
const MINUTE: u64 = 60;

/// Checks between two sweeps, and so the most keys that one sweep leaves for the next.
const SWEEP: u32 = 10_000;

/// Bytes of a request that count as much as one more operation: reading them takes about as long.
const BYTES_OF_OPERATION: usize = 4 * 1024;

type Limiter<K> = governor::RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// Limits how often a user, and an address, may do one kind of thing.
#[derive(Debug)]
pub struct RateLimiter {
    throttle: Throttle,
    /// What one check may count as, where it may not be refused for that alone.
    most: NonZeroU32,
    /// By a hash of the token's issuer and subject. Two users with one hash share a quota.
    users: Limiter<u64>,
    addresses: Limiter<IpAddr>,
    hasher: RandomState,
    clock: DefaultClock,
    checked: AtomicU32,
}

impl RateLimiter {
    /// Allows a user `by_user` times a minute, and an address `by_address` times; either can do
    /// them all at once. `throttle` is what a refusal says there was too much of.
    #[must_use]
    pub fn new(throttle: Throttle, by_user: NonZeroU32, by_address: NonZeroU32) -> Self {
        Self {
            throttle,
            most: by_user.min(by_address),
            users: Limiter::hashmap(Quota::per_minute(by_user)),
            addresses: Limiter::hashmap(Quota::per_minute(by_address)),
            hasher: RandomState::new(),
            clock: DefaultClock::default(),
            checked: AtomicU32::new(0),
        }
    }

    /// Counts `times` for the user and for the address of a request.
    ///
    /// # Errors
    ///
    /// When either has used up its quota.
    pub fn check(&self, source: Source<'_>, times: NonZeroU32) -> Result<()> {
        self.sweep();
        if let Some(caller) = source.caller {
            let user = self.hasher.hash_one((&caller.issuer, &caller.subject));
            self.check_key(&self.users, &user, times)?;
        }
        let address = source.address.map(network);
        address.map_or(Ok(()), |address| self.check_key(&self.addresses, &address, times))
    }

    /// Counts `operations` that came in `bytes` of a request. What costs more counts more, but
    /// never more than a whole quota.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub fn check_operations(
        &self,
        source: Source<'_>,
        operations: usize,
        bytes: usize,
    ) -> Result<()> {
        let times = operations.saturating_add(bytes / BYTES_OF_OPERATION);
        let times = u32::try_from(times).ok().and_then(NonZeroU32::new);
        self.check(source, times.unwrap_or(NonZeroU32::MIN).min(self.most))
    }

    fn check_key<K: Hash + Eq + Clone>(
        &self,
        limiter: &Limiter<K>,
        key: &K,
        times: NonZeroU32,
    ) -> Result<()> {
        let wait = match limiter.check_key_n(key, times) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(refused)) => refused.wait_time_from(self.clock.now()).as_secs(),
            // Not even a whole quota allows this many at once.
            Err(_) => MINUTE,
        };
        Err(Error::RateLimited { throttle: self.throttle, retry_after: wait.saturating_add(1) })
    }

    fn sweep(&self) {
        if self.checked.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEP) {
            self.users.retain_recent();
            self.addresses.retain_recent();
        }
    }
}

/// The network whose addresses one client can choose from: the holder of one IPv6 address has at
/// least the 64 bits below it (RFC 6177).
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn from(address: u32) -> Source<'static> {
        Source { caller: None, address: Some(Ipv4Addr::from_bits(address).into()) }
    }

    #[test]
    fn addresses_whose_quota_has_come_back_are_forgotten() {
        let limiter = RateLimiter::new(Throttle::Rate, NonZeroU32::MAX, NonZeroU32::MAX);
        for address in 0..5 * SWEEP {
            assert!(limiter.check(from(address), NonZeroU32::MIN).is_ok());
        }
        assert!(limiter.addresses.len() <= SWEEP as usize, "{}", limiter.addresses.len());
    }

    #[test]
    fn a_large_request_uses_up_the_quota_and_is_not_refused_for_its_size_alone() {
        let few = NonZeroU32::MIN.saturating_add(9);
        let limiter = RateLimiter::new(Throttle::Rate, few, few);
        assert!(limiter.check_operations(from(1), 1, 3 * BYTES_OF_OPERATION).is_ok());
        assert!(limiter.check_operations(from(1), 1, 6 * BYTES_OF_OPERATION).is_err());
        assert!(limiter.check_operations(from(2), 10_000, 1_000 * BYTES_OF_OPERATION).is_ok());
        assert!(limiter.check_operations(from(2), 1, 0).is_err());
    }
}
