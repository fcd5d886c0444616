//! Rate limits: how often a user or an address may do something per minute. Each server counts
//! separately.
//!
//! Memory is bounded. A cleanup removes each user and address whose full quota is available again,
//! which takes no longer than using it up did.

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

/// Seconds until a used-up quota is fully available again.
const MINUTE: u64 = 60;

/// The number of checks between two cleanups. It bounds the keys that one cleanup leaves behind.
const CLEANUP: u32 = 10_000;

/// Bytes of a request that count as one more operation, because parsing them takes about as long.
const BYTES_OF_OPERATION: usize = 4 * 1024;

type Limiter<K> = governor::RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// Limits how often a user and an address may do one kind of thing.
#[derive(Debug)]
pub struct RateLimiter {
    throttle: Throttle,
    /// The maximum that one check counts. A request is never refused for its size alone.
    max_cost: NonZeroU32,
    /// Keyed by a hash of the token's issuer and subject. On a collision two users share a quota.
    users: Limiter<u64>,
    addresses: Limiter<IpAddr>,
    hasher: RandomState,
    clock: DefaultClock,
    checked: AtomicU32,
}

impl RateLimiter {
    /// Allows each user `by_user` and each address `by_address` operations per minute, in a burst
    /// if they like. `throttle` is reported by refusals.
    #[must_use]
    pub fn new(throttle: Throttle, by_user: NonZeroU32, by_address: NonZeroU32) -> Self {
        Self {
            throttle,
            max_cost: by_user.min(by_address),
            users: Limiter::hashmap(Quota::per_minute(by_user)),
            addresses: Limiter::hashmap(Quota::per_minute(by_address)),
            hasher: RandomState::new(),
            clock: DefaultClock::default(),
            checked: AtomicU32::new(0),
        }
    }

    /// Counts `times` against the quotas of the request's user and address.
    pub(crate) fn check(&self, source: Source<'_>, times: NonZeroU32) -> Result<()> {
        self.clean_up();
        if let Some(caller) = source.caller {
            let user = self.hasher.hash_one((&caller.issuer, &caller.subject));
            self.check_key(&self.users, &user, times)?;
        }
        let address = source.address.map(network);
        address.map_or(Ok(()), |address| self.check_key(&self.addresses, &address, times))
    }

    /// Counts `operations` that arrived in a request of `bytes` bytes. Large requests count more,
    /// but never more than a full quota.
    pub(crate) fn check_operations(
        &self,
        source: Source<'_>,
        operations: usize,
        bytes: usize,
    ) -> Result<()> {
        let times = operations.saturating_add(bytes / BYTES_OF_OPERATION);
        let times = u32::try_from(times).ok().and_then(NonZeroU32::new);
        self.check(source, times.unwrap_or(NonZeroU32::MIN).min(self.max_cost))
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
            // A full quota does not allow this many at once.
            Err(_) => MINUTE,
        };
        Err(Error::RateLimited { throttle: self.throttle, retry_after: wait.saturating_add(1) })
    }

    fn clean_up(&self) {
        if self.checked.fetch_add(1, Ordering::Relaxed).is_multiple_of(CLEANUP) {
            self.users.retain_recent();
            self.addresses.retain_recent();
        }
    }
}

/// The network that an address belongs to. A client with one IPv6 address can choose from at least
/// the 64 bits below its prefix (RFC 6177), so these are dropped.
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
        for address in 0..5 * CLEANUP {
            assert!(limiter.check(from(address), NonZeroU32::MIN).is_ok());
        }
        assert!(limiter.addresses.len() <= CLEANUP as usize, "{}", limiter.addresses.len());
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
