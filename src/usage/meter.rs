//! Calls are counted in memory, against blocks of calls that are leased from the database: no request writes a counter, and any
//! number of servers together never pass the limit. A server that dies loses what is left of its blocks, one an organization.
//!
//! `billing.usage` holds what was leased and not given back. Where the plan has no limit there is nothing to lease: then calls are
//! added up (`left` falls below zero) and written down from time to time.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use entity::OrganizationId;
use futures_util::{StreamExt, stream};

use super::ops::{self, Lease};
use crate::{
    calendar::month_of,
    error::{Error, Result},
    plan,
    rate_limit::RateLimit,
    tenancy::{Access, Environment, Placement, Reason, open_system},
};

/// How often the catalogue of plans is looked at: a new limit is obeyed within a second.
const CATALOGUE_INTERVAL: Duration = Duration::from_millis(500);

/// An organization that has used up its calls is looked at again after this: another server may have given some back.
const RECHECK: Duration = Duration::from_secs(1);

/// How long unlimited calls are only in memory, and how long the lease of a silent organization is kept.
const FLUSH: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_mins(5);

/// Leases that are given back at the same time.
const AT_ONCE: usize = 2;

/// Counts calls; cheap to clone.
#[derive(Clone, Debug)]
pub struct Meter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    placement: Placement,
    environment: Environment,
    counters: Mutex<HashMap<OrganizationId, Arc<Counter>>>,
    /// Grows whenever the catalogue of plans changes.
    catalogue: AtomicU64,
}

/// The calls of one organization.
#[derive(Debug)]
struct Counter {
    organization_id: OrganizationId,
    state: Mutex<State>,
    /// One lease at a time; whoever waited looks whether it still needs one.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    held: Option<Held>,
    /// Leases so far.
    number: u64,
    refilling: bool,
    used_at: Instant,
    /// No longer in the map: others begin a new counter.
    retired: bool,
}

/// A lease, and what is left of it.
#[derive(Clone, Debug)]
struct Held {
    lease: Lease,
    left: i64,
    catalogue: u64,
    since: Instant,
}

/// What a call meets.
enum Turn {
    Counted(Option<RateLimit>),
    /// Counted, and it is time to lease more.
    Refill(Option<RateLimit>),
    Refused(RateLimit),
    /// A lease is needed first.
    Lease(u64),
    Retired,
}

/// What a new lease does with what is left of the one before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Keep,
    GiveBack,
}

impl Meter {
    /// A meter that has counted nothing.
    #[must_use]
    pub fn new(placement: Placement, environment: Environment) -> Self {
        Self(Arc::new(Shared {
            placement,
            environment,
            counters: Mutex::default(),
            catalogue: AtomicU64::new(0),
        }))
    }

    /// Counts a call. `version` is when the organization's billing changed last, as the request saw it. Answers with the state of
    /// the limit; `None` without one.
    ///
    /// # Errors
    ///
    /// When the plan allows no more, or the database cannot be asked.
    pub async fn count(
        &self,
        organization_id: OrganizationId,
        version: Option<DateTime<Utc>>,
    ) -> Result<Option<RateLimit>> {
        let mut fresh_for = version;
        loop {
            let counter = self.counter(organization_id);
            let now = self.0.environment.clock.now();
            match counter.turn(now, fresh_for, self.0.catalogue.load(Ordering::Relaxed)) {
                Turn::Counted(rate) => return Ok(rate),
                Turn::Refill(rate) => {
                    let (meter, number) = (self.clone(), counter.number());
                    tokio::spawn(async move {
                        if let Err(error) = meter.lease(&counter, number, Rest::Keep).await {
                            tracing::warn!(%error, "no further calls were leased");
                        }
                        counter.lock().refilling = false;
                    });
                    return Ok(rate);
                }
                Turn::Refused(rate) => return Err(Error::CallsExhausted(rate)),
                Turn::Lease(number) => {
                    // In a task of its own: a request that goes away must not lose the lease on its way.
                    let meter = self.clone();
                    let leasing =
                        tokio::spawn(
                            async move { meter.lease(&counter, number, Rest::GiveBack).await },
                        );
                    leasing.await.map_err(Error::internal)??;
                    // An older request may have seen an older version; one look is enough.
                    fresh_for = None;
                }
                Turn::Retired => tokio::task::yield_now().await,
            }
        }
    }

    /// How many calls were used in the current month, given what the table says: that counts leased calls as used.
    #[must_use]
    pub fn used(&self, organization_id: OrganizationId, in_table: i64) -> i64 {
        let (start, _) = month_of(self.0.environment.clock.now());
        let counter = self.counters().get(&organization_id).cloned();
        let held = counter.and_then(|counter| counter.lock().held.clone());
        // A request's snapshot may be older than the lease.
        let held = held.filter(|held| held.lease.period_start == start);
        held.map_or(in_table, |held| held.lease.used.max(in_table) - held.left)
    }

    /// Keeps the meter true for ever: notices changes of the catalogue, writes down what is only in memory, and forgets
    /// organizations that have gone silent. Dropping it stops.
    pub async fn keep(&self) {
        let mut seen = None;
        loop {
            match self.catalogue().await {
                Ok(catalogue) if seen.as_ref() != Some(&catalogue) => {
                    seen = Some(catalogue);
                    self.0.catalogue.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the catalogue of plans cannot be read"),
            }
            self.settle(Counter::is_due).await;
            tokio::time::sleep(CATALOGUE_INTERVAL).await;
        }
    }

    /// Gives back whatever was leased and not used: the end of a server.
    pub async fn give_back(&self) {
        self.settle(|_| true).await;
    }

    async fn settle(&self, due: fn(&Counter) -> bool) {
        let counters: Vec<_> =
            self.counters().values().filter(|counter| due(counter)).cloned().collect();
        stream::iter(counters)
            .for_each_concurrent(AT_ONCE, |counter| async move {
                let _turn = counter.turn.lock().await;
                self.counters().remove(&counter.organization_id);
                counter.lock().retired = true;

                if let Err(error) = self.release(&counter).await {
                    tracing::warn!(%error, "calls that were leased are lost");
                }
            })
            .await;
    }

    async fn release(&self, counter: &Counter) -> Result<()> {
        let Some(held) = counter.lock().held.take().filter(|held| held.left != 0) else {
            return Ok(());
        };
        let session = self.open(counter.organization_id).await?;
        ops::give_back(&session, held.lease.period_start, held.left).await?;
        session.commit().await
    }

    /// Leases a block, unless somebody has done so since the caller looked.
    async fn lease(&self, counter: &Counter, seen: u64, rest: Rest) -> Result<()> {
        let _turn = counter.turn.lock().await;
        if counter.number() != seen || counter.lock().retired {
            return Ok(());
        }
        // Read first: a catalogue that changes while we lease is noticed by the next call.
        let catalogue = self.0.catalogue.load(Ordering::Relaxed);
        let back = match rest {
            Rest::Keep => None,
            Rest::GiveBack => counter.take_left(),
        };
        let leased = async {
            let session = self.open(counter.organization_id).await?;
            if let Some((period_start, left)) = back.filter(|(_, left)| *left != 0) {
                ops::give_back(&session, period_start, left).await?;
            }
            let lease = ops::lease(&session).await?;
            session.commit().await?;
            Ok::<_, Error>(lease)
        };
        let leased = leased.await;
        let mut state = counter.lock();
        let kept = state.held.as_ref().map_or(0, |held| held.left);
        match leased {
            Ok(lease) => {
                let same = state
                    .held
                    .as_ref()
                    .is_some_and(|held| held.lease.period_start == lease.period_start);
                let left = lease.block + if same { kept } else { 0 };
                state.held = Some(Held { left, catalogue, since: Instant::now(), lease });
                state.number += 1;
                Ok(())
            }
            Err(error) => {
                // Nothing was given back, unless nobody knows: then it is lost.
                if let (Some(held), Some((_, left))) = (&mut state.held, back)
                    && !matches!(error, Error::CommitOutcomeUnknown(_))
                {
                    held.left += left;
                }
                Err(error)
            }
        }
    }

    async fn open(&self, organization_id: OrganizationId) -> Result<crate::tenancy::SystemSession> {
        let Shared { placement, environment, .. } = self.0.as_ref();
        open_system(placement, environment, Some(organization_id), Reason::Metering, Access::Write)
            .await
    }

    async fn catalogue(&self) -> Result<String> {
        let Shared { placement, environment, .. } = self.0.as_ref();
        let session =
            open_system(placement, environment, None, Reason::Metering, Access::Read).await?;
        plan::fingerprint(&session).await
    }

    fn counters(&self) -> MutexGuard<'_, HashMap<OrganizationId, Arc<Counter>>> {
        self.0.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counter(&self, organization_id: OrganizationId) -> Arc<Counter> {
        let mut counters = self.counters();
        let counter = counters
            .entry(organization_id)
            .or_insert_with(|| Arc::new(Counter::new(organization_id)));
        Arc::clone(counter)
    }
}

impl Counter {
    fn new(organization_id: OrganizationId) -> Self {
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        self.lock().number
    }

    /// What is left, which is then nobody's until it was given back.
    fn take_left(&self) -> Option<(DateTime<Utc>, i64)> {
        let mut state = self.lock();
        let held = state.held.as_mut()?;
        Some((held.lease.period_start, std::mem::take(&mut held.left)))
    }

    /// Something is only in memory for long enough, or nobody calls any more.
    fn is_due(&self) -> bool {
        let state = self.lock();
        let unwritten =
            state.held.as_ref().is_some_and(|held| held.left < 0 && held.since.elapsed() > FLUSH);
        unwritten || state.used_at.elapsed() > IDLE
    }

    fn turn(&self, now: DateTime<Utc>, version: Option<DateTime<Utc>>, catalogue: u64) -> Turn {
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
        if held.left > 0 || held.lease.limit.is_none() {
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
            Some(rate) if held.lease.block == 0 && held.since.elapsed() < RECHECK => {
                Turn::Refused(rate)
            }
            _ => Turn::Lease(number),
        }
    }
}

impl Held {
    fn is_current(
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

    fn rate(&self, now: DateTime<Utc>) -> Option<RateLimit> {
        let limit = self.lease.limit?;
        let remaining = (limit - self.lease.used + self.left).clamp(0, limit);
        // Rounded up: who comes back then finds the next period.
        let reset = (self.lease.period_end - now).num_seconds() + 1;
        Some(RateLimit { limit, remaining, reset })
    }
}
