//! Attempts at what could be guessed or abused: tokens of callers and of invitations, slugs, and
//! mails that a caller makes the server send. An attempt counts whether or not it succeeds.

use std::{net::IpAddr, num::NonZeroU32};

use super::{RateLimiter, Source};
use crate::{error::Result, rate_limit::Throttle};

/// Counts attempts.
#[derive(Debug)]
pub struct AttemptLimiter {
    guesses: RateLimiter,
    bad_tokens: RateLimiter,
}

impl AttemptLimiter {
    /// So many attempts a minute for a user, and for an address. Bad tokens of an address have a
    /// count apart from that.
    #[must_use]
    pub fn new(by_user: NonZeroU32, by_address: NonZeroU32) -> Self {
        let limiter = || RateLimiter::new(Throttle::Attempts, by_user, by_address);
        Self { guesses: limiter(), bad_tokens: limiter() }
    }

    /// Counts attempts at something that could be guessed, or that sends mail.
    ///
    /// # Errors
    ///
    /// When the user, or the address, has tried too often.
    pub fn attempt(&self, source: Source<'_>, times: NonZeroU32) -> Result<()> {
        self.guesses.check(source, times)
    }

    /// Counts a token that is not good.
    ///
    /// # Errors
    ///
    /// When the address has sent too many of them.
    pub fn bad_token(&self, address: IpAddr) -> Result<()> {
        let source = Source { caller: None, address: Some(address) };
        self.bad_tokens.check(source, NonZeroU32::MIN)
    }
}
