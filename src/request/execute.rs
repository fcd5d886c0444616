//! One execution of a request in one session, from opening the session to its commit or rollback.
//! The service starts another one when a conflict or a failed replica allows it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_graphql::{Response, Value};
use chrono::{DateTime, Utc};
use tokio::time::{Instant, timeout_at};

use super::{
    RequestContext, answer::null, prepared::Prepared, service::GraphqlService, trace::RequestTrace,
};
use crate::{
    error::{Error, Result},
    graphql::{Loaders, Queue, present},
    idempotency::{self, Claim},
    plan,
    schema::to_request,
    tenancy::{Access, Freshness, Lsn, Opened, Preference, Session},
};

/// The result of an execution.
pub(super) struct Executed {
    pub(super) response: Response,
    pub(super) database_time: Duration,
    /// Whether the response is a stored one.
    pub(super) replayed: bool,
    pub(super) lsn: Option<Lsn>,
    pub(super) at_replica: bool,
}

/// One execution. Its state stays readable after its future was dropped.
pub(super) struct Execution<'request> {
    service: &'request GraphqlService,
    prepared: &'request Prepared,
    call: &'request RequestContext,
    access: Access,
    trace: &'request RequestTrace,
    partly_committed: OnceLock<Arc<AtomicBool>>,
    freshness: Option<Freshness>,
    at_replica: AtomicBool,
    /// Until its cost is counted, which is known also when the work in it was dropped.
    session: Mutex<Option<Arc<Session>>>,
}

/// A session in which the whole operation was resolved.
struct Resolution {
    session: Arc<Session>,
    response: Response,
    replayed: bool,
}

impl<'request> Execution<'request> {
    pub(super) fn new(
        service: &'request GraphqlService,
        prepared: &'request Prepared,
        call: &'request RequestContext,
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
            session: Mutex::default(),
        }
    }

    /// Whether part of the request was committed already.
    pub(super) fn is_partly_committed(&self) -> bool {
        self.partly_committed.get().is_some_and(|partly| partly.load(Ordering::Relaxed))
    }

    /// Whether the session was opened at the replica.
    pub(super) fn is_at_replica(&self) -> bool {
        self.at_replica.load(Ordering::Relaxed)
    }

    pub(super) async fn perform(&self, deadline: Instant) -> Result<Executed> {
        let executed = self.try_to_perform(deadline).await;
        self.charge(None);
        executed
    }

    /// Counts what the session has cost, and goes on with the next one, if there is one.
    fn charge(&self, next: Option<&Arc<Session>>) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = std::mem::replace(&mut *session, next.cloned());
        if let Some(ended) = ended {
            self.trace.spend(ended.transaction().cost());
        }
    }

    async fn try_to_perform(&self, deadline: Instant) -> Result<Executed> {
        // A timeout drops the session, which rolls its transaction back.
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
            database_time: transaction.database_time(),
            replayed,
            lsn: transaction.lsn(),
            at_replica: self.is_at_replica(),
        };
        if let Some(failure) = transaction.failure().map(Error::from) {
            // After one failed statement all later ones fail, so the first error is the cause.
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
                // PostgreSQL refused the COMMIT, so the request was executed and nothing was
                // written.
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
            if let Some(resolved) = self.resolve_speculatively(opened).await? {
                return Ok(resolved);
            }
            // Rare: the caller or the organization has changed since the context was cached.
            preference = Preference::Placement;
        }
    }

    /// Executes a query on the cached context while the database confirms that context. Returns
    /// `None` if it is outdated. Then nothing was counted, and the response is discarded.
    async fn resolve_speculatively(&self, opened: Opened) -> Result<Option<Resolution>> {
        let Opened { session, moved_to, billing_version, .. } = opened;
        let session = Arc::new(session);
        self.charge(Some(&session));
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
            // Ends the session's permit as well.
            self.charge(None);
            return Ok(None);
        }
        if self.trace.counted.get().is_none() {
            // Rare. The connection is released first, so that no request holds one while it waits
            // for a lease of calls.
            session.transaction().release();
            Box::pin(self.count(&session, billing_version)).await?;
        }
        let response = self.presented(&session, response, moved_to);
        Ok(Some(Resolution { session, response, replayed: false }))
    }

    async fn resolve_in(&self, opened: Opened) -> Result<Resolution> {
        let Opened { session, moved_to, billing_version, .. } = opened;
        let session = Arc::new(session);
        self.charge(Some(&session));
        // Set once, because a mutation opens one session per execution.
        let _ = self.partly_committed.set(session.partly_committed());
        self.is_of(&session);
        let begun = session.tenant();
        // A repeated request with the same idempotency key counts as well.
        self.count(&session, billing_version).await?;
        let key = self.call.idempotency_key.as_ref().filter(|_| self.prepared.is_mutation());
        let key = key.map(|key| (key, self.prepared.fingerprint()));
        if let Some((key, fingerprint)) = &key {
            let wait = 2 * self.service.timeout;
            let claim = idempotency::claim(&session, key, fingerprint, wait).await?;
            if let Claim::Done(kept) = claim {
                self.service.metrics.replayed();
                let response = serde_json::from_str(&kept).map_err(Error::internal)?;
                return Ok(Resolution { session, response, replayed: true });
            }
        }
        let changes = self.prepared.document().changes.as_ref();
        if changes.is_some_and(|changes| changes.len() > 1) && session.in_organization() {
            // Several changes lock several rows. Taking the organization's lock first prevents a
            // deadlock between two such requests.
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

    /// Records the user and the organization of the request.
    fn is_of(&self, session: &Session) {
        let organization = session.tenant().map(|tenant| tenant.organization_id);
        self.trace.is_of(session.viewer().user_id, organization);
    }

    async fn count(&self, session: &Session, version: Option<DateTime<Utc>>) -> Result<()> {
        if self.trace.counted.get().is_some() {
            return Ok(());
        }
        let counted = match self.service.count(session, version).await {
            // An owner must be able to upgrade the plan after all calls are used up.
            Err(Error::CallsExhausted(rate)) if self.prepared.is_about_billing() => Some(rate),
            outcome => outcome?,
        };
        // Cannot fail: the check above found it empty.
        let _ = self.trace.counted.set(counted);
        Ok(())
    }

    /// Prepares the response for the client: extensions, and errors without internal details.
    fn presented(
        &self,
        session: &Session,
        mut response: Response,
        moved_to: Option<String>,
    ) -> Response {
        response.extensions = extensions(moved_to);
        // After a failed statement the response is replaced by that failure.
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

impl Drop for Execution<'_> {
    /// Also where a resolver has panicked.
    fn drop(&mut self) {
        self.charge(None);
    }
}

/// The response extensions: the current slug, if the request used a retired one.
fn extensions(moved_to: Option<String>) -> BTreeMap<String, Value> {
    moved_to.map(|slug| ("organizationSlug".to_owned(), Value::from(slug))).into_iter().collect()
}
