//! One execution of an operation in one transaction: open, execute, commit, answer.

use std::{collections::BTreeMap, pin::pin, sync::Arc};

use async_graphql::{Response, Value};
use chrono::{DateTime, Utc};
use tokio::{
    time::{Instant, timeout_at},
    try_join,
};

use super::{
    GraphqlService, RequestContext,
    answer::{Answer, null},
    open::ReadFrom,
    prepared::Prepared,
    record::RequestRecord,
};
use crate::{
    error::{Error, Result},
    graphql::{Queue, present, request_loaders},
    idempotency::{self, Claim},
    schema::to_request,
    tenancy::{Confirmation, OpenFor, Opened, Session, Tenant},
};

/// An operation that is executed once, or again after a conflict.
#[derive(Clone, Copy)]
pub(super) struct Execution<'request> {
    pub(super) service: &'request GraphqlService,
    pub(super) prepared: &'request Prepared,
    pub(super) call: &'request RequestContext,
    pub(super) open_for: &'request OpenFor,
    /// When the transaction must begin to end.
    pub(super) deadline: Instant,
}

/// The organization for which a call counts, and when its billing last changed.
#[derive(Clone, Copy)]
struct Payer {
    organization: Option<Tenant>,
    billing_version: Option<DateTime<Utc>>,
}

impl Execution<'_> {
    /// Executes the operation. Returns `None` if the cached context was outdated: then nothing was
    /// counted, and the results were discarded.
    pub(super) async fn run(
        self,
        read_from: ReadFrom,
        record: &mut RequestRecord,
    ) -> Result<Option<Answer>> {
        // Pinned here and below: a function that is passed a future by value has room for it twice.
        let resolved = {
            let resolving = pin!(self.resolve(read_from, record));
            timeout_at(self.deadline, resolving).await.map_err(|_| Error::Timeout)??
        };
        match (resolved, record.session()) {
            (Some(answer), Some(session)) => self.finish(&session, answer, record).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn resolve(
        self,
        read_from: ReadFrom,
        record: &mut RequestRecord,
    ) -> Result<Option<Answer>> {
        let (opened, confirmation) = self.service.open(self.call, self.open_for, read_from).await?;
        let Opened { session, requested, moved_to, billing_version, at_replica, .. } = opened;
        session.transaction().limit(self.call.budget);
        record.begin(&session, at_replica);
        let payer = Payer { organization: requested, billing_version };
        if self.prepared.is_mutation() {
            return self.mutate(&session, payer, moved_to, record).await.map(Some);
        }
        let response = self.query(&session, payer, confirmation, record).await?;
        Ok(response
            .map(|response| Answer::executed(self.presented(&session, response, moved_to, record))))
    }

    /// Executes a query while its context is confirmed and its call is counted.
    async fn query(
        self,
        session: &Arc<Session>,
        payer: Payer,
        confirmation: Option<Confirmation<'_>>,
        record: &mut RequestRecord,
    ) -> Result<Option<Response>> {
        let counting = pin!(async {
            if let Some(confirmation) = confirmation
                && !confirmation.wait(session).await?
            {
                return Ok(false);
            }
            self.count(session, payer, record).await.map(|()| true)
        });
        let executing = pin!(async {
            let response = self.execute(session).await;
            // The connection is free before the count, which may wait for a lease of calls.
            session.transaction().release();
            Ok::<_, Error>(response)
        });
        let (is_confirmed, response) = try_join!(biased; counting, executing)?;
        Ok(is_confirmed.then_some(response))
    }

    /// Executes a mutation whose call can be counted, or repeats the response of an earlier request
    /// with the same idempotency key. Such a repetition counts as well.
    async fn mutate(
        self,
        session: &Arc<Session>,
        payer: Payer,
        moved_to: Option<String>,
        record: &mut RequestRecord,
    ) -> Result<Answer> {
        self.count(session, payer, record).await?;
        let key = self.call.idempotency_key.as_ref();
        let key = key.map(|key| (key, self.prepared.fingerprint()));
        if let Some((key, fingerprint)) = &key {
            let wait = 2 * self.service.timeout;
            let organization = payer.organization;
            let claim = idempotency::claim(session, organization, key, fingerprint, wait).await?;
            if let Claim::Done(kept) = claim {
                self.service.metrics.replayed();
                let response = serde_json::from_str(&kept).map_err(Error::internal)?;
                return Ok(Answer { replayed: true, ..Answer::executed(response) });
            }
        }
        let response = self.execute(session).await;
        let response = self.presented(session, response, moved_to, record);
        let is_to_be_kept =
            session.transaction().failure().is_none() && response.data != Value::Null;
        if let Some((key, fingerprint)) = key.filter(|_| is_to_be_kept) {
            let kept = serde_json::to_string(&response).map_err(Error::internal)?;
            idempotency::keep(session, payer.organization, key, &fingerprint, &kept).await?;
        }
        Ok(Answer::executed(response))
    }

    /// Counts the call, once for all executions of the request.
    async fn count(
        self,
        session: &Session,
        Payer { organization, billing_version }: Payer,
        record: &mut RequestRecord,
    ) -> Result<()> {
        record.is_of(session.viewer().user_id, organization.map(|tenant| tenant.organization_id));
        if record.is_counted() {
            return Ok(());
        }
        let rate_limit = match self.service.count(organization, billing_version).await {
            // An owner must be able to upgrade the plan after all calls are used up.
            Err(Error::CallsExhausted(rate)) if self.prepared.is_about_billing() => Some(rate),
            outcome => outcome?,
        };
        record.count(rate_limit);
        Ok(())
    }

    async fn execute(self, session: &Arc<Session>) -> Response {
        let queue = Queue::default();
        let request = to_request(self.prepared.document())
            .data(Arc::clone(session))
            .data(self.service.meter.clone())
            .data(request_loaders(session, queue.clone(), self.open_for.access()));
        let executing = pin!(self.service.api.execute(request));
        queue.drive(session.transaction(), executing).await
    }

    /// Prepares the response for the client: extensions, and errors without internal details.
    fn presented(
        self,
        session: &Session,
        mut response: Response,
        moved_to: Option<String>,
        record: &mut RequestRecord,
    ) -> Response {
        response.extensions = extensions(moved_to);
        // After a failed statement the response is replaced by that failure.
        if session.transaction().failure().is_none() {
            if !response.errors.is_empty() {
                record.describe();
            }
            present(&mut response, self.call.request_id);
        }
        response
    }

    /// Ends the transaction: commits a mutation that has succeeded, and rolls back any other.
    async fn finish(
        self,
        session: &Session,
        mut answer: Answer,
        record: &mut RequestRecord,
    ) -> Result<Answer> {
        let transaction = session.transaction();
        let mut failed = None;
        if let Some(failure) = transaction.failure().map(Error::from) {
            // After one failed statement all later ones fail, so the first error is the cause.
            transaction.roll_back().await;
            match failure {
                Error::Internal(_) if !record.is_at_replica() => failed = Some(failure),
                failure => return Err(failure),
            }
        } else if !self.prepared.is_mutation() {
            // The query has released its connection.
        } else if answer.replayed || answer.response.data == Value::Null {
            if answer.replayed {
                transaction.locate().await;
            }
            transaction.roll_back().await;
        } else {
            match session.commit().await {
                Ok(()) => {}
                // PostgreSQL refused the COMMIT, so the request was executed and nothing was
                // written.
                Err(error @ Error::Internal(_)) => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = failed {
            record.describe();
            answer.response = null(&error, self.call.request_id);
        }
        Ok(Answer {
            database_time: transaction.database_time(),
            lsn: transaction.lsn(),
            at_replica: record.is_at_replica(),
            ..answer
        })
    }
}

/// The response extensions: the current slug, if the request used a retired one.
fn extensions(moved_to: Option<String>) -> BTreeMap<String, Value> {
    moved_to.map(|slug| ("organizationSlug".to_owned(), Value::from(slug))).into_iter().collect()
}
