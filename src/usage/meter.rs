//! Calls are counted in memory, against blocks of calls that are leased from the database: no
//! request writes a counter, and any number of servers together never pass the limit. A server that
//! dies loses what is left of its blocks, one an organization.
//!
//! `billing.usage` holds what was leased and not given back. Where the plan has no limit there is
//! nothing to lease: then calls are added up (`left` falls below zero) and written down from time
//! to time.

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

use tokio::sync::watch;

use super::{
    counter::{Counter, Held, Turn},
    ops,
};
use crate::{
    calendar::month_of,
    error::{Error, Result},
    metrics::Metrics,
    plan,
    rate_limit::RateLimit,
    tenancy::{Access, Databases, Reason, Settings, SystemSession, open_system},
};

/// How often the catalogue of plans is looked at: a new limit is obeyed within a second.
const CATALOGUE_INTERVAL: Duration = Duration::from_millis(500);

/// How long the database is left alone after it took no changes.
const REFUSED_WAIT: Duration = Duration::from_secs(5);

/// Leases that are given back at the same time.
const AT_ONCE: usize = 2;

/// Counts calls; cheap to clone.
#[derive(Clone, Debug)]
pub struct Meter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    metrics: Metrics,
    /// When the database last refused a change: it is not asked again at once, let alone for each
    /// organization.
    read_only: Mutex<Option<Instant>>,
    databases: Databases,
    settings: Settings,
    counters: Mutex<HashMap<OrganizationId, Arc<Counter>>>,
    /// Grows whenever the catalogue of plans changes.
    catalogue: AtomicU64,
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
    pub fn new(databases: Databases, settings: Settings, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            metrics,
            read_only: Mutex::default(),
            databases,
            settings,
            counters: Mutex::default(),
            catalogue: AtomicU64::new(0),
        }))
    }

    /// Counts a call. `version` is when the organization's billing changed last, as the request saw
    /// it. Answers with the state of the limit; `None` without one.
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
            match self.attempt(&counter, fresh_for) {
                Ok(outcome) => return outcome,
                Err(Turn::Lease(number)) => {
                    self.lease_anew(counter, number).await?;
                    // An older request may have seen an older version; one look is enough.
                    fresh_for = None;
                }
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Counts a call as [`count`](Self::count) does, unless somebody would have to wait for that.
    #[must_use]
    pub fn count_at_once(
        &self,
        organization_id: OrganizationId,
        version: Option<DateTime<Utc>>,
    ) -> Option<Result<Option<RateLimit>>> {
        self.attempt(&self.counter(organization_id), version).ok()
    }

    /// What came of the call, or what stands in between.
    fn attempt(
        &self,
        counter: &Arc<Counter>,
        version: Option<DateTime<Utc>>,
    ) -> Result<Result<Option<RateLimit>>, Turn> {
        let now = self.0.settings.clock.now();
        match counter.turn(now, version, self.0.catalogue.load(Ordering::Relaxed)) {
            Turn::Counted(rate) => Ok(Ok(rate)),
            Turn::Refill(rate) => {
                let (meter, counter, number) =
                    (self.clone(), Arc::clone(counter), counter.number());
                tokio::spawn(async move {
                    if let Err(error) = meter.lease(&counter, number, Rest::Keep).await {
                        tracing::warn!(%error, "no further calls were leased");
                    }
                    counter.lock().refilling = false;
                });
                Ok(Ok(rate))
            }
            Turn::Refused(rate) => Ok(Err(Error::CallsExhausted(rate))),
            turn @ (Turn::Lease(_) | Turn::Retired) => Err(turn),
        }
    }

    /// Whether the next call is counted, and not refused, without asking the database; `version` as
    /// for [`count`](Self::count).
    #[must_use]
    pub fn has_room(
        &self,
        organization_id: OrganizationId,
        version: Option<DateTime<Utc>>,
    ) -> bool {
        self.knows(organization_id, version, false)
    }

    /// Whether the next call is counted, or refused, without asking the database; `version` as for
    /// [`count`](Self::count).
    #[must_use]
    pub fn is_ready(
        &self,
        organization_id: OrganizationId,
        version: Option<DateTime<Utc>>,
    ) -> bool {
        self.knows(organization_id, version, true)
    }

    fn knows(
        &self,
        organization_id: OrganizationId,
        version: Option<DateTime<Utc>>,
        or_exhausted: bool,
    ) -> bool {
        let catalogue = self.0.catalogue.load(Ordering::Relaxed);
        let now = self.0.settings.clock.now();
        self.counter(organization_id).knows(now, version, catalogue, or_exhausted)
    }

    /// Leases calls where that is needed, so that the next one can be counted without asking the
    /// database.
    ///
    /// # Errors
    ///
    /// When the database cannot be asked.
    pub async fn prepare(
        &self,
        organization_id: OrganizationId,
        version: Option<DateTime<Utc>>,
    ) -> Result<()> {
        let counter = self.counter(organization_id);
        let number = counter.number();
        if self.is_ready(organization_id, version) {
            return Ok(());
        }
        self.lease_anew(counter, number).await
    }

    /// In a task of its own: a request that goes away must not lose the lease on its way.
    async fn lease_anew(&self, counter: Arc<Counter>, seen: u64) -> Result<()> {
        let meter = self.clone();
        let leasing =
            tokio::spawn(async move { meter.lease(&counter, seen, Rest::GiveBack).await });
        leasing.await.map_err(Error::internal)?
    }

    /// How many calls were used in the current month: as of this server's last lease, with what it
    /// has counted since. Without one, what the table says, where leased calls count as used.
    #[must_use]
    pub fn used(&self, organization_id: OrganizationId, in_table: i64) -> i64 {
        let (start, _) = month_of(self.0.settings.clock.now());
        let counter = self.counters().get(&organization_id).cloned();
        let held = counter.and_then(|counter| counter.lock().held.clone());
        let held = held.filter(|held| held.lease.period_start == start);
        // The request's snapshot of the table may be older than the lease.
        held.map_or(in_table, |held| held.lease.used - held.left)
    }

    /// Keeps the meter true for ever: notices changes of the catalogue, writes down what is only in
    /// memory, and forgets organizations that have gone silent. Ends when `stop` says so, between
    /// two of these.
    pub async fn keep(&self, mut stop: watch::Receiver<bool>) {
        let mut seen = None;
        while !*stop.borrow() {
            match self.catalogue().await {
                Ok(catalogue) if seen.as_ref() != Some(&catalogue) => {
                    seen = Some(catalogue);
                    self.0.catalogue.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the catalogue of plans cannot be read"),
            }
            self.settle(Counter::is_due).await;
            // Either way the loop looks what it was.
            let _ = tokio::time::timeout(CATALOGUE_INTERVAL, stop.wait_for(|stop| *stop)).await;
        }
    }

    /// Gives back whatever was leased and not used: the end of a server.
    pub async fn give_back(&self) {
        // This is the last time.
        *self.0.read_only.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.settle(|_| true).await;
    }

    async fn settle(&self, due: fn(&Counter) -> bool) {
        if self.check_changes().is_err() {
            return;
        }
        let counters: Vec<_> =
            self.counters().values().filter(|counter| due(counter)).cloned().collect();
        stream::iter(counters)
            .for_each_concurrent(AT_ONCE, |counter| async move {
                if let Err(error) = self.release(&counter).await {
                    tracing::warn!(%error, "calls were not written down: later again");
                }
            })
            .await;
    }

    /// Writes down what a counter has, and forgets it, unless somebody has gone on counting
    /// meanwhile.
    async fn release(&self, counter: &Arc<Counter>) -> Result<()> {
        let _turn = counter.turn.lock().await;
        let taken = counter.take_left().filter(|(_, left)| *left != 0);
        if let Some((period_start, left)) = taken {
            let written = async {
                let session = self.open(counter.organization_id).await?;
                ops::give_back(&session, period_start, left).await?;
                session.commit().await
            };
            if let Err(error) = written.await {
                counter.put_back(left, &error);
                self.note_refusal(&error);
                return Err(error);
            }
        }
        let mut counters = self.counters();
        let mut state = counter.lock();
        let goes_on = !state.is_silent();
        match &mut state.held {
            // Without a limit there is nothing to lease anew: whoever still calls is counted on.
            Some(held) if held.left != 0 || (goes_on && held.lease.limit.is_none()) => {
                held.lease.used -= taken.map_or(0, |(_, left)| left);
                // What was counted meanwhile is only in memory since now.
                held.since = Instant::now();
            }
            _ => {
                state.retired = true;
                counters.remove(&counter.organization_id);
            }
        }
        Ok(())
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
            self.check_changes()?;
            let session = self.open(counter.organization_id).await?;
            if let Some((period_start, left)) = back.filter(|(_, left)| *left != 0) {
                ops::give_back(&session, period_start, left).await?;
            }
            let lease = ops::lease(&session).await?;
            session.commit().await?;
            Ok::<_, Error>(lease)
        };
        let leased = match leased.await {
            Err(error) => {
                if let Some((_, left)) = back {
                    counter.put_back(left, &error);
                }
                if !matches!(error, Error::ReadOnly(_)) {
                    return Err(error);
                }
                self.note_refusal(&error);
                let access = Access::Read;
                ops::stopgap(&self.open_for(counter.organization_id, access).await?).await?
            }
            Ok(lease) => {
                self.0.metrics.leased(u64::try_from(lease.block).unwrap_or_default());
                lease
            }
        };
        let mut state = counter.lock();
        let same =
            state.held.as_ref().filter(|held| held.lease.period_start == leased.period_start);
        let left = leased.block + same.map_or(0, |held| held.left);
        state.held = Some(Held { left, catalogue, since: Instant::now(), lease: leased });
        state.number += 1;
        Ok(())
    }

    /// Whether the database has taken changes of late: it is asked now and again by one, and not by
    /// each organization.
    fn check_changes(&self) -> Result<()> {
        let refused = *self.0.read_only.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_some_and(|refused| refused.elapsed() < REFUSED_WAIT) {
            let cause: Box<dyn std::error::Error + Send + Sync> =
                "the database took no changes a moment ago".into();
            return Err(Error::ReadOnly(cause.into()));
        }
        Ok(())
    }

    fn note_refusal(&self, error: &Error) {
        if matches!(error, Error::ReadOnly(_)) && self.check_changes().is_ok() {
            *self.0.read_only.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            tracing::warn!(cause = error.cause(), "no calls are leased: they are not limited");
        }
    }

    async fn open(&self, organization_id: OrganizationId) -> Result<SystemSession> {
        self.open_for(organization_id, Access::Write).await
    }

    async fn open_for(
        &self,
        organization_id: OrganizationId,
        access: Access,
    ) -> Result<SystemSession> {
        let Shared { databases, settings, .. } = self.0.as_ref();
        open_system(databases, settings, Some(organization_id), Reason::Metering, access).await
    }

    async fn catalogue(&self) -> Result<String> {
        let Shared { databases, settings, .. } = self.0.as_ref();
        let session =
            open_system(databases, settings, None, Reason::Metering, Access::Read).await?;
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
