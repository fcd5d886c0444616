//! One attempt at a request: a session from its opening to its end.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_graphql::{Response, Value};
use chrono::{DateTime, Utc};
use tokio::time::{Instant, timeout_at};

use super::{Call, answer::null, prepared::Prepared, service::GraphqlService, trace::RequestTrace};
use crate::{
    error::{Error, Result},
    graphql::{Loaders, Queue, present},
    idempotency::{self, Claim},
    plan,
    schema::to_request,
    tenancy::{Access, Cost, Freshness, Lsn, Opened, Preference, Session},
};

/// What an attempt came to.
pub(super) struct Executed {
    pub(super) response: Response,
    pub(super) cost: Cost,
    pub(super) database_time: Duration,
    /// The answer was kept from before.
    pub(super) replayed: bool,
    pub(super) lsn: Option<Lsn>,
    pub(super) at_replica: bool,
}

/// What it takes, and what is known of it also when its work was dropped.
pub(super) struct Execution<'request> {
    service: &'request GraphqlService,
    prepared: &'request Prepared,
    call: &'request Call,
    access: Access,
    trace: &'request RequestTrace,
    partly_committed: OnceLock<Arc<AtomicBool>>,
    freshness: Option<Freshness>,
    at_replica: AtomicBool,
}

/// A session in which everything was resolved.
struct Resolution {
    session: Arc<Session>,
    response: Response,
    replayed: bool,
}

impl<'request> Execution<'request> {
    pub(super) fn new(
        service: &'request GraphqlService,
        prepared: &'request Prepared,
        call: &'request Call,
        trace: &'request RequestTrace,
        freshness: Option<Freshness>,
    ) -> Self {
        let access = if prepared.is_mutation() { Access::Write } else { Access::Read };
        Self {
            service,
            prepared,
            call,
            access,
            trace,
            partly_committed: OnceLock::new(),
            freshness,
            at_replica: AtomicBool::new(false),
        }
    }

    /// Something of it holds already.
    pub(super) fn is_partly_committed(&self) -> bool {
        self.partly_committed.get().is_some_and(|partly| partly.load(Ordering::Relaxed))
    }

    /// What went wrong went wrong there.
    pub(super) fn is_at_replica(&self) -> bool {
        self.at_replica.load(Ordering::Relaxed)
    }

    pub(super) async fn perform(&self, deadline: Instant) -> Result<Executed> {
        // Dropping the execution drops the session, whose transaction then rolls back.
        let executed = timeout_at(deadline, self.resolve()).await.map_err(|elapsed| {
            if self.is_partly_committed() {
                Error::OutcomeUnknown(Arc::new(elapsed))
            } else {
                Error::Timeout
            }
        });
        let Resolution { session, mut response, replayed } = executed??;
        let transaction = session.transaction();
        let executed = |response| Executed {
            response,
            cost: transaction.cost(),
            database_time: transaction.database_time(),
            replayed,
            lsn: transaction.lsn(),
            at_replica: self.is_at_replica(),
        };
        if let Some(failure) = transaction.failure() {
            // One failed statement fails all that follow: the first error is the one to tell.
            transaction.roll_back().await;
            return match failure {
                Error::Internal(_) if !self.is_at_replica() => {
                    self.trace.describe();
                    Ok(executed(null(&failure, self.call.request_id)))
                }
                failure => Err(failure),
            };
        }
        match self.access {
            Access::Read => transaction.release(),
            Access::Write if replayed || response.data == Value::Null => {
                if replayed {
                    transaction.locate().await;
                }
                transaction.roll_back().await;
            }
            Access::Write => match session.commit().await {
                Ok(()) => {}
                // Refused by PostgreSQL: executed, and come to nothing.
                Err(error @ Error::Internal(_)) => {
                    self.trace.describe();
                    response = null(&error, self.call.request_id);
                }
                Err(error) => return Err(error),
            },
        }
        Ok(executed(response))
    }

    async fn resolve(&self) -> Result<Resolution> {
        let mut preference = self.prepared.preference(self.freshness);
        loop {
            let opened = self.service.open(self.call, self.access, preference).await?;
            self.at_replica.store(opened.at_replica, Ordering::Relaxed);
            opened.session.transaction().limit(self.call.budget);
            if !opened.session.is_speculative() {
                return self.resolve_in(opened).await;
            }
            if let Some(resolved) = self.resolve_speculative(opened).await? {
                return Ok(resolved);
            }
            // Rare: something of the caller or the organization has changed since they were here
            // last.
            preference = Preference::Placement;
        }
    }

    /// Resolves a query on what is remembered, while the database says whether that is still so. If
    /// it is not, there is nothing to answer, nothing was counted, and nothing is told.
    async fn resolve_speculative(&self, opened: Opened) -> Result<Option<Resolution>> {
        let Opened { session, moved_to, billing_version, .. } = opened;
        let session = Arc::new(session);
        let confirmed = async {
            let is_confirmed = session.is_confirmed().await?;
            if is_confirmed {
                self.is_of(&session);
                if let Some(counted) = self.service.count_at_once(&session, billing_version) {
                    let _ = self.trace.counted.set(counted?);
                }
            }
            Ok::<_, Error>(is_confirmed)
        };
        let (confirmed, response) = tokio::join!(biased; confirmed, self.execute(&session));
        if !confirmed? {
            session.transaction().roll_back().await;
            return Ok(None);
        }
        if self.trace.counted.get().is_none() {
            // Rare, and nobody waits for a lease of calls with a connection in hand.
            session.transaction().release();
            Box::pin(self.count(&session, billing_version)).await?;
        }
        let response = self.presented(&session, response, moved_to);
        Ok(Some(Resolution { session, response, replayed: false }))
    }

    async fn resolve_in(&self, opened: Opened) -> Result<Resolution> {
        let Opened { session, moved_to, billing_version, .. } = opened;
        let session = Arc::new(session);
        // Set once: an attempt at a mutation opens one session.
        let _ = self.partly_committed.set(session.partly_committed());
        self.is_of(&session);
        let begun = session.tenant();
        // A repetition counts as well.
        self.count(&session, billing_version).await?;
        let key = self.call.idempotency_key.as_ref().filter(|_| self.prepared.is_mutation());
        let key = key.map(|key| (key, self.prepared.fingerprint()));
        if let Some((key, fingerprint)) = &key {
            let patience = 2 * self.service.timeout;
            let claim = idempotency::claim(&session, key, fingerprint, patience).await?;
            if let Claim::Done(kept) = claim {
                self.service.metrics.replayed();
                let response = serde_json::from_str(&kept).map_err(Error::internal)?;
                return Ok(Resolution { session, response, replayed: true });
            }
        }
        let changes = self.prepared.document().changes.as_ref();
        if changes.is_some_and(|changes| changes.len() > 1) && session.in_organization() {
            // Several changes lock several rows: first of all the one that all others begin with,
            // else two such requests could wait for each other.
            plan::lock(&session).await?;
        }
        let response = self.execute(&session).await;
        let response = self.presented(&session, response, moved_to);
        let is_to_be_kept =
            session.transaction().failure().is_none() && response.data != Value::Null;
        if let Some((key, fingerprint)) = key.filter(|_| is_to_be_kept) {
            let kept = serde_json::to_string(&response).map_err(Error::internal)?;
            idempotency::keep(&session, begun, key, &fingerprint, &kept).await?;
        }
        Ok(Resolution { session, response, replayed: false })
    }

    /// Notes whose request it is.
    fn is_of(&self, session: &Session) {
        let organization = session.tenant().map(|tenant| tenant.organization_id);
        self.trace.is_of(session.viewer().user_id, organization);
    }

    async fn count(&self, session: &Session, version: Option<DateTime<Utc>>) -> Result<()> {
        if self.trace.counted.get().is_some() {
            return Ok(());
        }
        let counted = match self.service.count(session, version).await {
            // Whoever is to upgrade the plan must be able to.
            Err(Error::CallsExhausted(rate)) if self.prepared.is_about_billing() => Some(rate),
            outcome => outcome?,
        };
        // Set once: looked at above.
        let _ = self.trace.counted.set(counted);
        Ok(())
    }

    /// As clients see it.
    fn presented(
        &self,
        session: &Session,
        mut response: Response,
        moved_to: Option<String>,
    ) -> Response {
        response.extensions = extensions(moved_to);
        // Otherwise the failure is the answer.
        if session.transaction().failure().is_none() {
            if !response.errors.is_empty() {
                self.trace.describe();
            }
            present(&mut response, self.call.request_id);
        }
        response
    }

    async fn execute(&self, session: &Arc<Session>) -> Response {
        let queue = Queue::default();
        let request = to_request(self.prepared.document())
            .data(Arc::clone(session))
            .data(self.service.meter.clone())
            .data(Loaders::new(Arc::clone(session), queue.clone(), self.access));
        queue.drive(session.transaction(), self.service.api.execute(request)).await
    }
}

/// What a client should know about the way its request took.
fn extensions(moved_to: Option<String>) -> BTreeMap<String, Value> {
    moved_to.map(|slug| ("organizationSlug".to_owned(), Value::from(slug))).into_iter().collect()
}
