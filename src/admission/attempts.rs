//! Attempts at what could be guessed or abused: tokens of callers and of invitations, and mails that somebody makes us send. Each
//! person has so many a minute, and each address; a server counts for itself.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::HashMapStateStore,
};

use crate::{
    auth::Caller,
    error::{Error, Result},
    rate_limit::Throttle,
};

/// Seconds after which all attempts are there again.
const MINUTE: u64 = 60;

/// After so many attempts those are forgotten that count no more.
const SWEEP: u32 = 10_000;

type Limiter<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// Counts attempts.
#[derive(Debug)]
pub struct Attempts {
    people: Limiter<(String, String)>,
    addresses: Limiter<IpAddr>,
    strangers: Limiter<IpAddr>,
    clock: DefaultClock,
    counted: AtomicU32,
}

impl Attempts {
    /// So many attempts a minute for a person, and for an address; tokens that are not good have a count of their own.
    #[must_use]
    pub fn new(of_person: NonZeroU32, of_address: NonZeroU32) -> Self {
        Self {
            people: RateLimiter::hashmap(Quota::per_minute(of_person)),
            addresses: RateLimiter::hashmap(Quota::per_minute(of_address)),
            strangers: RateLimiter::hashmap(Quota::per_minute(of_address)),
            clock: DefaultClock::default(),
            counted: AtomicU32::new(0),
        }
    }

    /// Somebody tries tokens of invitations, or has mail sent, so many times.
    ///
    /// # Errors
    ///
    /// When the person, or the address, has tried too often.
    pub fn attempt(
        &self,
        caller: &Caller,
        address: Option<IpAddr>,
        times: NonZeroU32,
    ) -> Result<()> {
        self.sweep();
        let person = (caller.issuer.clone(), caller.subject.clone());
        self.check(&self.people, &person, times)?;
        address.map_or(Ok(()), |address| self.check(&self.addresses, &network(address), times))
    }

    /// A token turned out not to be good.
    ///
    /// # Errors
    ///
    /// When the address has shown too many of them.
    pub fn bad_token(&self, address: IpAddr) -> Result<()> {
        self.sweep();
        self.check(&self.strangers, &network(address), NonZeroU32::MIN)
    }

    fn check<K: Hash + Eq + Clone>(
        &self,
        limiter: &Limiter<K>,
        key: &K,
        times: NonZeroU32,
    ) -> Result<()> {
        let wait = match limiter.check_key_n(key, times) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(refused)) => refused.wait_time_from(self.clock.now()).as_secs(),
            // So many at once are never allowed.
            Err(_) => MINUTE,
        };
        Err(Error::RateLimited {
            throttle: Throttle::Attempts,
            retry_after: wait.saturating_add(1),
        })
    }

    fn sweep(&self) {
        if self.counted.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEP) {
            self.people.retain_recent();
            self.addresses.retain_recent();
            self.strangers.retain_recent();
        }
    }
}

/// The network that counts as one client: of IPv6 64 bits, because each site has at least those (RFC 6177).
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
