//! Counts API calls in memory, against blocks of calls leased from the database. Requests write no
//! counter, and all servers together never exceed the limit.
//!
//! A server that crashes leaves about one block of each organization counted without calls, or
//! loses about as many calls of a plan without a limit. A transaction whose COMMIT has an unknown
//! outcome has the same effect on the organizations in it.
//!
//! `billing.usage` holds the calls that were leased and not returned. A plan without a limit needs
//! no lease: its calls accumulate in memory (`left` goes below zero) and are written later. The
//! opening of a request reads what decides the organization's plan, and the server has the
//! catalogue in memory, so it knows most limits without a query. Leases and writes of many
//! organizations share transactions (`usage_writer`).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use entity::{OrganizationId, PlanTerms};
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    counter::{CallOutcome, Counter, Held},
    plan_cache::PlanCache,
    usage_writer::{LARGEST, UsageWriter},
};
use crate::{
    calendar::month_of,
    error::{Error, Result},
    metrics::Metrics,
    rate_limit::RateLimit,
    tenancy::{Access, Databases, Reason, Settings, open_system},
};

/// How often the plan catalogue is checked, so that a new limit takes effect within a second.
const CATALOGUE_INTERVAL: Duration = Duration::from_millis(500);
const _: () = assert!(CATALOGUE_INTERVAL.as_millis() < 1_000, "within a second, as documented");

/// How often counters are checked for calls to write. With 100,000 of them, a check takes
/// milliseconds, during which no call can be counted.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait after the database refused a change before trying again.
const REFUSED_WAIT: Duration = Duration::from_secs(5);

/// Counts API calls; cheap to clone.
#[derive(Clone, Debug)]
pub struct Meter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    metrics: Metrics,
    /// When the database last refused a change. It delays the next try, for all organizations
    /// together.
    read_only: Mutex<Option<Instant>>,
    databases: Databases,
    settings: Settings,
    counters: Mutex<HashMap<OrganizationId, Arc<Counter>>>,
    writer: Arc<UsageWriter>,
    plans: PlanCache,
}

/// What a new lease does with the rest of the previous one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Keep,
    GiveBack,
}

impl Meter {
    /// A meter without any counts.
    #[must_use]
    pub fn new(databases: Databases, settings: Settings, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            metrics,
            read_only: Mutex::default(),
            writer: Arc::new(UsageWriter::new(databases.clone(), settings.clone())),
            databases,
            settings,
            counters: Mutex::default(),
            plans: PlanCache::default(),
        }))
    }

    /// Counts a call, and returns the state of the limit (`None` for an unlimited plan). `version`
    /// is the time of the organization's last billing change, as the request read it. Waits only
    /// for a lease, for which the request must not hold a connection: see
    /// [`is_ready`](Self::is_ready).
    ///
    /// # Errors
    ///
    /// When the plan allows no more calls, or the database cannot be reached.
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
                Err(CallOutcome::Lease(number)) => {
                    self.lease_in_task(counter, number, fresh_for).await?;
                    // A request may have read an older version than the lease. One new lease is
                    // enough.
                    fresh_for = None;
                }
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Counts the call, or returns what has to happen first.
    fn attempt(
        &self,
        counter: &Arc<Counter>,
        version: Option<DateTime<Utc>>,
    ) -> Result<Result<Option<RateLimit>>, CallOutcome> {
        let now = self.0.settings.clock.now();
        let count = || counter.count_call(now, version, self.0.plans.number());
        let outcome = match count() {
            CallOutcome::Lease(_) if self.grant(counter, version) => count(),
            outcome => outcome,
        };
        match outcome {
            CallOutcome::Counted(rate) => Ok(Ok(rate)),
            CallOutcome::Refill(rate) => {
                let (meter, counter, number) =
                    (self.clone(), Arc::clone(counter), counter.number());
                let is_limited = rate.is_some();
                tokio::spawn(async move {
                    if !is_limited {
                        meter.release(&counter).await;
                    } else if let Err(error) =
                        meter.lease(&counter, number, Rest::Keep, version).await
                    {
                        tracing::warn!(%error, "could not lease further API calls");
                    }
                    counter.lock().refilling = false;
                });
                Ok(Ok(rate))
            }
            CallOutcome::Refused(rate) => Ok(Err(Error::CallsExhausted(rate))),
            outcome @ (CallOutcome::Lease(_) | CallOutcome::Retired) => Err(outcome),
        }
    }

    /// Whether the next call can be counted or refused without a query. `version` as for
    /// [`count`](Self::count).
    #[must_use]
    pub fn is_ready(
        &self,
        organization_id: OrganizationId,
        version: Option<DateTime<Utc>>,
    ) -> bool {
        let counter = self.counter(organization_id);
        let now = self.0.settings.clock.now();
        let is_ready = || counter.is_ready(now, version, self.0.plans.number());
        is_ready() || self.grant(&counter, version) && is_ready()
    }

    /// Notes what decides the organization's plan, as a request has read it.
    pub fn learn(&self, organization_id: OrganizationId, terms: &PlanTerms) {
        self.counter(organization_id).learn(terms);
    }

    /// Lets an organization go on without a lease, if its plan is known to have no limit.
    fn grant(&self, counter: &Counter, version: Option<DateTime<Utc>>) -> bool {
        let Shared { plans, settings, .. } = self.0.as_ref();
        // Read first, as for a lease.
        let catalogue = plans.number();
        let known = plans.known(settings, counter, version).filter(|lease| lease.limit.is_none());
        known.is_some_and(|lease| counter.grant(lease, catalogue))
    }

    /// Whether the organization has just been found to have no calls left.
    pub(crate) fn is_exhausted(&self, organization_id: OrganizationId) -> bool {
        self.counter(organization_id).is_exhausted()
    }

    /// Leases calls if needed, so that the next one can be counted without a query.
    pub(crate) async fn prepare(
        &self,
        organization_id: OrganizationId,
        version: Option<DateTime<Utc>>,
    ) -> Result<()> {
        let counter = self.counter(organization_id);
        let number = counter.number();
        if self.is_ready(organization_id, version) {
            return Ok(());
        }
        self.lease_in_task(counter, number, version).await
    }

    /// Leases in a separate task, so that cancelling the request does not lose the lease.
    async fn lease_in_task(
        &self,
        counter: Arc<Counter>,
        seen: u64,
        version: Option<DateTime<Utc>>,
    ) -> Result<()> {
        let meter = self.clone();
        let leasing =
            tokio::spawn(async move { meter.lease(&counter, seen, Rest::GiveBack, version).await });
        leasing.await.map_err(Error::internal)?
    }

    /// The calls used in the current month: those of this server's last lease plus its calls since.
    /// Without a lease, `in_table`, where leased calls count as used. A plan without a limit that
    /// was granted from memory adds to `in_table`.
    pub(crate) fn used(&self, organization_id: OrganizationId, in_table: i64) -> i64 {
        let (start, _) = month_of(self.0.settings.clock.now());
        let counter = self.0.counters.lock().get(&organization_id).cloned();
        let held = counter.and_then(|counter| counter.lock().held.clone());
        let held = held.filter(|held| held.lease.period_start == start);
        // The lease may be newer than the request's snapshot of the table.
        held.map_or(in_table, |held| held.lease.used.unwrap_or(in_table) - held.left)
    }

    /// Maintains the meter until `stop` is set: detects changes of the plan catalogue, writes calls
    /// that are only in memory, and removes counters that are no longer used.
    pub(crate) async fn keep(&self, stop: watch::Receiver<bool>) {
        tokio::join!(self.follow_catalogue(stop.clone()), self.check_counters(stop));
    }

    async fn follow_catalogue(&self, mut stop: watch::Receiver<bool>) {
        let (mut seen, mut wait) = (None, Duration::ZERO);
        while !is_stopped_within(wait, &mut stop).await {
            if let Err(error) = self.read_catalogue(&mut seen).await {
                tracing::warn!(%error, "could not read the plan catalogue");
            }
            wait = CATALOGUE_INTERVAL;
        }
    }

    async fn check_counters(&self, mut stop: watch::Receiver<bool>) {
        while !is_stopped_within(CHECK_INTERVAL, &mut stop).await {
            self.settle(Counter::is_due).await;
        }
    }

    /// Returns all leased and unused calls to the database, at shutdown.
    pub async fn give_back(&self) {
        // There is no later try, so the delay after a refusal does not apply.
        *self.0.read_only.lock() = None;
        self.settle(|_| true).await;
    }

    async fn settle(&self, due: fn(&Counter) -> bool) {
        let counters: Vec<_> =
            self.0.counters.lock().values().filter(|counter| due(counter)).cloned().collect();
        stream::iter(counters)
            .for_each_concurrent(LARGEST, |counter| async move { self.release(&counter).await })
            .await;
    }

    /// Writes the calls of a counter to the database and removes the counter, unless calls were
    /// counted meanwhile. Calls that cannot be written are kept for the next try.
    async fn release(&self, counter: &Arc<Counter>) {
        let _leasing = counter.leasing.lock().await;
        if self.check_changes().is_err() || counter.lock().retired {
            return;
        }
        let taken = counter.take_left().filter(|(_, left)| *left != 0);
        if let Some((period_start, left)) = taken {
            let organization_id = counter.organization_id;
            let written = self.0.writer.give_back(organization_id, period_start, left);
            if let Err(error) = written.await {
                counter.put_back(left, &error);
                if matches!(error, Error::ReadOnly(_)) {
                    self.note_refusal(&error);
                } else {
                    tracing::warn!(%error, "could not write API calls");
                }
                return;
            }
        }
        let mut counters = self.0.counters.lock();
        let mut state = counter.lock();
        let goes_on = !state.is_silent();
        match &mut state.held {
            // An unlimited plan has no lease to renew, so an active counter stays.
            Some(held) if held.left != 0 || (goes_on && held.lease.limit.is_none()) => {
                held.lease.used =
                    held.lease.used.map(|used| used - taken.map_or(0, |(_, left)| left));
                // The calls counted meanwhile are unwritten only since now.
                held.since = Instant::now();
            }
            _ => {
                state.retired = true;
                counters.remove(&counter.organization_id);
            }
        }
    }

    /// Leases a block, unless another task did so since the caller looked.
    async fn lease(
        &self,
        counter: &Counter,
        seen: u64,
        rest: Rest,
        version: Option<DateTime<Utc>>,
    ) -> Result<()> {
        let _leasing = counter.leasing.lock().await;
        if counter.number() != seen || counter.lock().retired {
            return Ok(());
        }
        // Read first, so that the next call detects a change that happens during the lease.
        let catalogue = self.0.plans.number();
        let back = match rest {
            Rest::Keep => None,
            Rest::GiveBack => counter.take_left(),
        };
        let organization_id = counter.organization_id;
        // An organization without calls left is asked again every second, and should only read.
        let known = self
            .0
            .plans
            .known(&self.0.settings, counter, version)
            .filter(|lease| lease.limit > Some(0));
        let known = known.filter(|_| !counter.had_none());
        let leased = async {
            self.check_changes()?;
            self.0.writer.lease(organization_id, back, known).await
        };
        let leased = match leased.await {
            Err(error) => {
                if let Some((_, left)) = back {
                    counter.put_back(left, &error);
                }
                match error {
                    Error::ReadOnly(_) => self.note_refusal(&error),
                    // Only the lease is unknown: the client's operation has not started.
                    Error::CommitOutcomeUnknown(cause) => return Err(Error::Unavailable(cause)),
                    error => return Err(error),
                }
                self.0.writer.stopgap(organization_id).await?
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

    /// Fails during the delay after a refused change. One organization tries again after it, not
    /// all.
    fn check_changes(&self) -> Result<()> {
        let refused = *self.0.read_only.lock();
        if refused.is_some_and(|refused| refused.elapsed() < REFUSED_WAIT) {
            let cause: Box<dyn std::error::Error + Send + Sync> =
                "the database refused changes a moment ago".into();
            return Err(Error::ReadOnly(cause.into()));
        }
        Ok(())
    }

    fn note_refusal(&self, error: &Error) {
        if self.check_changes().is_ok() {
            *self.0.read_only.lock() = Some(Instant::now());
            tracing::warn!(
                cause = error.cause(),
                "the database is read-only: API calls are not limited until it accepts changes"
            );
        }
    }

    async fn read_catalogue(&self, seen: &mut Option<String>) -> Result<()> {
        let Shared { databases, settings, plans, .. } = self.0.as_ref();
        let session =
            open_system(databases, settings, None, Reason::Metering, Access::Read).await?;
        plans.refresh(&session, seen).await
    }

    fn counter(&self, organization_id: OrganizationId) -> Arc<Counter> {
        let mut counters = self.0.counters.lock();
        let counter = counters
            .entry(organization_id)
            .or_insert_with(|| Arc::new(Counter::new(organization_id)));
        Arc::clone(counter)
    }
}

/// Returns whether `stop` is set by the end of the interval, as soon as it is.
async fn is_stopped_within(interval: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::time::timeout(interval, stop.wait_for(|stop| *stop)).await.is_ok()
}
