//! The calls of one organization, counted in memory against the block that is held.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use entity::OrganizationId;

use super::ops::Lease;
use crate::{error::Error, rate_limit::RateLimit};

/// An organization that has used up its calls is looked at again after this: another server may
/// have given some back.
const RECHECK: Duration = Duration::from_secs(1);

/// How long unlimited calls are only in memory, where each organization is a transaction of its
/// own: with thousands of them, writing down more often costs more than answering.
const FLUSH: Duration = Duration::from_mins(1);

/// How long the lease of a silent organization is kept.
const IDLE: Duration = Duration::from_mins(5);

/// The calls of one organization.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) organization_id: OrganizationId,
    state: Mutex<State>,
    /// One lease at a time; whoever waited looks whether it still needs one.
    pub(super) turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) held: Option<Held>,
    /// Leases so far.
    pub(super) number: u64,
    pub(super) refilling: bool,
    used_at: Instant,
    /// No longer in the map: others begin a new counter.
    pub(super) retired: bool,
}

impl State {
    /// Nobody calls any more.
    pub(super) fn is_silent(&self) -> bool {
        self.used_at.elapsed() > IDLE
    }
}

/// A lease, and what is left of it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) lease: Lease,
    pub(super) left: i64,
    pub(super) catalogue: u64,
    pub(super) since: Instant,
}

/// What a call meets.
pub(super) enum Turn {
    Counted(Option<RateLimit>),
    /// Counted, and it is time to lease more.
    Refill(Option<RateLimit>),
    Refused(RateLimit),
    /// A lease is needed first.
    Lease(u64),
    Retired,
}

impl Counter {
    pub(super) fn new(organization_id: OrganizationId) -> Self {
        Self {
            organization_id,
            state: Mutex::new(State {
                held: None,
                number: 0,
                refilling: false,
                used_at: Instant::now(),
                retired: false,
            }),
            turn: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn number(&self) -> u64 {
        self.lock().number
    }

    /// What is left, which is then nobody's until it was given back.
    pub(super) fn take_left(&self) -> Option<(DateTime<Utc>, i64)> {
        let mut state = self.lock();
        let held = state.held.as_mut()?;
        Some((held.lease.period_start, std::mem::take(&mut held.left)))
    }

    /// Nothing was given back, unless nobody knows: then it is lost.
    pub(super) fn put_back(&self, left: i64, error: &Error) {
        if let Some(held) = &mut self.lock().held
            && !matches!(error, Error::CommitOutcomeUnknown(_))
        {
            held.left += left;
        }
    }

    /// Something is only in memory for long enough, or nobody calls any more.
    pub(super) fn is_due(&self) -> bool {
        let state = self.lock();
        let unwritten =
            state.held.as_ref().is_some_and(|held| held.left < 0 && held.since.elapsed() > FLUSH);
        unwritten || state.is_silent()
    }

    /// A call would be counted without a new lease; or refused, where `or_exhausted` asks for that
    /// as well.
    pub(super) fn knows(
        &self,
        now: DateTime<Utc>,
        version: Option<DateTime<Utc>>,
        catalogue: u64,
        or_exhausted: bool,
    ) -> bool {
        let state = self.lock();
        let held = state.held.as_ref().filter(|held| held.is_current(now, version, catalogue));
        held.is_some_and(|held| held.has_room() || (or_exhausted && held.is_exhausted()))
    }

    pub(super) fn turn(
        &self,
        now: DateTime<Utc>,
        version: Option<DateTime<Utc>>,
        catalogue: u64,
    ) -> Turn {
        let mut state = self.lock();
        if state.retired {
            return Turn::Retired;
        }
        state.used_at = Instant::now();
        let (number, refilling) = (state.number, state.refilling);
        let Some(held) = &mut state.held else {
            return Turn::Lease(number);
        };
        if !held.is_current(now, version, catalogue) {
            return Turn::Lease(number);
        }
        if held.has_room() {
            held.left -= 1;
            let low = held.lease.limit.is_some() && held.left < held.lease.block / 4;
            let rate = held.rate(now);
            if low && !refilling {
                state.refilling = true;
                return Turn::Refill(rate);
            }
            return Turn::Counted(rate);
        }
        match held.rate(now) {
            Some(rate) if held.is_exhausted() => Turn::Refused(rate),
            _ => Turn::Lease(number),
        }
    }
}

impl Held {
    pub(super) fn is_current(
        &self,
        now: DateTime<Utc>,
        version: Option<DateTime<Utc>>,
        catalogue: u64,
    ) -> bool {
        let Lease { period_start, period_end, valid_until, .. } = self.lease;
        self.catalogue == catalogue
            && (version.is_none() || version == self.lease.version)
            && (period_start..period_end).contains(&now)
            && valid_until.is_none_or(|until| now < until)
    }

    fn has_room(&self) -> bool {
        self.left > 0 || self.lease.limit.is_none()
    }

    /// There was nothing to lease a moment ago.
    fn is_exhausted(&self) -> bool {
        self.lease.block == 0 && self.since.elapsed() < RECHECK
    }

    pub(super) fn rate(&self, now: DateTime<Utc>) -> Option<RateLimit> {
        let limit = self.lease.limit?;
        let remaining = (limit - self.lease.used + self.left).clamp(0, limit);
        // Rounded up: who comes back then finds the next period.
        let reset = (self.lease.period_end - now).num_seconds() + 1;
        Some(RateLimit { limit, remaining, reset })
    }
}
