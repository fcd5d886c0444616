//! The plan catalogue in memory. With what a request has read of an organization's billing, it
//! decides the limit of API calls without a query.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::{API_CALLS_PER_MONTH, counter::Counter, lease::Lease};
use crate::{
    calendar::month_of,
    error::Result,
    plan::{self, MeterCatalogue},
    tenancy::{Settings, UnitOfWork},
};

/// The catalogue as last read.
#[derive(Debug, Default)]
pub(super) struct PlanCache {
    /// Grows with each change of the catalogue.
    number: AtomicU64,
    /// At least as new as the number. `None` until it was read.
    plans: Mutex<Option<Arc<MeterCatalogue>>>,
}

impl PlanCache {
    /// The number of changes that were seen.
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// Reads the catalogue if its fingerprint differs from the one that was `seen`.
    pub(super) async fn refresh(
        &self,
        session: &impl UnitOfWork,
        seen: &mut Option<String>,
    ) -> Result<()> {
        let fingerprint = plan::fingerprint(session).await?;
        if seen.as_ref() != Some(&fingerprint) {
            let plans = MeterCatalogue::load(session, API_CALLS_PER_MONTH).await?;
            *self.plans.lock() = Some(Arc::new(plans));
            *seen = Some(fingerprint);
            self.number.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What the organization's plan allows, if that is known without a query: a lease without a
    /// block.
    pub(super) fn known(
        &self,
        settings: &Settings,
        counter: &Counter,
        version: Option<DateTime<Utc>>,
    ) -> Option<Lease> {
        let terms = counter.terms(version)?;
        let plans = self.plans.lock().clone()?;
        let grace = settings.area::<plan::Settings>().ok()?.grace;
        let now = settings.clock.now();
        let effective = plans.effective_allowance(&terms, now, grace)?;
        Some(Lease::without_block(month_of(now), effective, None))
    }
}
