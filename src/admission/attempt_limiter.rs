//! Rate limits for attempts at secrets that can be guessed (access tokens, invitation tokens,
//! slugs) and for e-mail sent on behalf of a caller. Every attempt counts, whether or not it
//! succeeds.

use std::{net::IpAddr, num::NonZeroU32};

use super::{RateLimiter, Source};
use crate::{error::Result, rate_limit::Throttle};

/// Limits attempts per user and per address.
#[derive(Debug)]
pub struct AttemptLimiter {
    guesses: RateLimiter,
    bad_tokens: RateLimiter,
}

impl AttemptLimiter {
    /// Allows `by_user` attempts per minute for each user and `by_address` for each address.
    /// Invalid tokens of an address have a separate quota of the same size.
    #[must_use]
    pub fn new(by_user: NonZeroU32, by_address: NonZeroU32) -> Self {
        let limiter = || RateLimiter::new(Throttle::Attempts, by_user, by_address);
        Self { guesses: limiter(), bad_tokens: limiter() }
    }

    /// Counts attempts at guessing a secret, or at sending e-mail.
    pub(crate) fn attempt(&self, source: Source<'_>, times: NonZeroU32) -> Result<()> {
        self.guesses.check(source, times)
    }

    /// Counts an invalid token.
    pub(crate) fn bad_token(&self, address: IpAddr) -> Result<()> {
        let source = Source { caller: None, address: Some(address) };
        self.bad_tokens.check(source, NonZeroU32::MIN)
    }
}
