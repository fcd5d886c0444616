//! Counts the calls of one organization in memory against a leased block. A call is counted only
//! while the lease is current.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use entity::{OrganizationId, PlanTerms};
use parking_lot::{Mutex, MutexGuard};

use super::lease::{LARGEST_BLOCK, Lease};
use crate::{error::Error, rate_limit::RateLimit};

/// How long an organization without calls is refused before another lease is tried. Another server
/// may have returned calls meanwhile.
const RECHECK: Duration = Duration::from_secs(1);

/// How long the lease of an organization without calls is kept, and how long calls without a limit
/// stay only in memory. Each write updates a row per organization, so with many organizations a
/// shorter time would cost PostgreSQL as much as their requests.
const IDLE: Duration = Duration::from_mins(5);

/// The call counter of one organization.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) organization_id: OrganizationId,
    state: Mutex<State>,
    /// Serializes leases. A task that waited for it checks whether it still needs a lease.
    pub(super) leasing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) held: Option<Held>,
    /// What decides the organization's plan, as a request has read it.
    pub(super) terms: Option<Arc<PlanTerms>>,
    /// The number of leases so far.
    pub(super) number: u64,
    pub(super) refilling: bool,
    used_at: Instant,
    /// Removed from the map, so that later calls create a new counter.
    pub(super) retired: bool,
}

impl State {
    /// Whether no call was counted for a while.
    pub(super) fn is_silent(&self) -> bool {
        self.used_at.elapsed() > IDLE
    }
}

/// A lease and its remaining calls.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) lease: Lease,
    pub(super) left: i64,
    pub(super) catalogue: u64,
    pub(super) since: Instant,
}

/// The result of counting one call.
pub(super) enum CallOutcome {
    Counted(Option<RateLimit>),
    /// The call was counted, and the next block should be leased. Without a limit, the calls should
    /// be written.
    Refill(Option<RateLimit>),
    Refused(RateLimit),
    /// A new lease is needed first. Carries the number of leases seen.
    Lease(u64),
    Retired,
}

impl Counter {
    pub(super) fn new(organization_id: OrganizationId) -> Self {
        Self {
            organization_id,
            state: Mutex::new(State {
                held: None,
                terms: None,
                number: 0,
                refilling: false,
                used_at: Instant::now(),
                retired: false,
            }),
            leasing: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Notes what decides the organization's plan, unless newer terms are known.
    pub(super) fn learn(&self, terms: &PlanTerms) {
        let mut state = self.lock();
        if state.terms.as_ref().is_none_or(|known| known.updated_at < terms.updated_at) {
            state.terms = Some(Arc::new(terms.clone()));
        }
    }

    /// What decides the organization's plan at `version`. A request that has read no version, as at
    /// a replica, cannot tell whether known terms are still right.
    pub(super) fn terms(&self, version: Option<DateTime<Utc>>) -> Option<Arc<PlanTerms>> {
        let version = version?;
        self.lock().terms.clone().filter(|terms| terms.updated_at == version)
    }

    /// Whether the last lease found no calls left.
    pub(super) fn had_none(&self) -> bool {
        let state = self.lock();
        state.held.as_ref().is_some_and(|held| held.lease.limit.is_some() && held.lease.block == 0)
    }

    /// Replaces the lease by one without a limit, and keeps the remaining calls. Returns `false` if
    /// these belong to an earlier month and have to be returned first.
    pub(super) fn grant(&self, lease: Lease, catalogue: u64) -> bool {
        let mut state = self.lock();
        match &mut state.held {
            Some(held) if held.lease.period_start != lease.period_start => return false,
            Some(held) => {
                held.lease = Lease { used: held.lease.used, ..lease };
                held.catalogue = catalogue;
            }
            None => state.held = Some(Held { lease, left: 0, catalogue, since: Instant::now() }),
        }
        true
    }

    pub(super) fn number(&self) -> u64 {
        self.lock().number
    }

    /// Takes the remaining calls out of the lease, so that no other call uses them while they are
    /// returned to the database.
    pub(super) fn take_left(&self) -> Option<(DateTime<Utc>, i64)> {
        let mut state = self.lock();
        let held = state.held.as_mut()?;
        Some((held.lease.period_start, std::mem::take(&mut held.left)))
    }

    /// Restores the remaining calls after they could not be returned. They are dropped if the
    /// outcome of the COMMIT is unknown, because they may have been returned.
    pub(super) fn put_back(&self, left: i64, error: &Error) {
        if let Some(held) = &mut self.lock().held
            && !matches!(error, Error::CommitOutcomeUnknown(_))
        {
            held.left += left;
        }
    }

    /// Whether unwritten calls are old enough to be written, or no calls arrive any more.
    pub(super) fn is_due(&self) -> bool {
        let state = self.lock();
        let unwritten =
            state.held.as_ref().is_some_and(|held| held.left < 0 && held.since.elapsed() > IDLE);
        unwritten || state.is_silent()
    }

    /// Whether the next call can be counted or refused without a new lease.
    pub(super) fn is_ready(
        &self,
        now: DateTime<Utc>,
        version: Option<DateTime<Utc>>,
        catalogue: u64,
    ) -> bool {
        let state = self.lock();
        let held = state.held.as_ref().filter(|held| held.is_current(now, version, catalogue));
        held.is_some_and(|held| held.has_room() || held.is_exhausted())
    }

    /// Whether the last lease, a moment ago, found no calls left.
    pub(super) fn is_exhausted(&self) -> bool {
        self.lock().held.as_ref().is_some_and(|held| !held.has_room() && held.is_exhausted())
    }

    pub(super) fn count_call(
        &self,
        now: DateTime<Utc>,
        version: Option<DateTime<Utc>>,
        catalogue: u64,
    ) -> CallOutcome {
        let mut state = self.lock();
        if state.retired {
            return CallOutcome::Retired;
        }
        state.used_at = Instant::now();
        let (number, refilling) = (state.number, state.refilling);
        let Some(held) = &mut state.held else {
            return CallOutcome::Lease(number);
        };
        if !held.is_current(now, version, catalogue) {
            return CallOutcome::Lease(number);
        }
        if held.has_room() {
            held.left -= 1;
            let rate = held.rate(now);
            if held.is_low() && !refilling {
                state.refilling = true;
                return CallOutcome::Refill(rate);
            }
            return CallOutcome::Counted(rate);
        }
        match held.rate(now) {
            Some(rate) if held.is_exhausted() => CallOutcome::Refused(rate),
            _ => CallOutcome::Lease(number),
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

    /// Whether another block should be leased, or enough calls without a limit were counted.
    fn is_low(&self) -> bool {
        match self.lease.limit {
            Some(_) => self.left < self.lease.block / 4,
            // Only at multiples, so that a refused write is not repeated by every call.
            None => self.left < 0 && self.left % LARGEST_BLOCK == 0,
        }
    }

    /// Whether the last lease, a moment ago, found no calls left.
    fn is_exhausted(&self) -> bool {
        self.lease.block == 0 && self.since.elapsed() < RECHECK
    }

    pub(super) fn rate(&self, now: DateTime<Utc>) -> Option<RateLimit> {
        let limit = self.lease.limit?;
        let remaining = (limit - self.lease.used? + self.left).clamp(0, limit);
        // Rounded up, so that a client that waits this long is in the next period.
        let reset = (self.lease.period_end - now).num_seconds() + 1;
        Some(RateLimit { limit, remaining, reset })
    }
}
