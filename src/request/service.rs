//! The GraphQL service: the life of an operation around its executions. It parses, retries
//! conflicts, and reports every answer to logs and metrics.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use async_graphql::ServerError;
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tracing::{Instrument, field::Empty};
use uuid::Uuid;

use super::{
    GraphqlService, RequestContext,
    answer::Answer,
    execute::Execution,
    open::ReadFrom,
    prepared::Prepared,
    record::{Ended, RequestRecord},
};
use crate::{
    admission::Source,
    error::{Error, Result},
    graphql::{Refusal, document::GraphqlRequest, refusal},
    rate_limit::RateLimit,
    schema::to_request,
    telemetry,
    tenancy::Tenant,
};

/// The maximum number of executions of one mutation that meets conflicts, and the maximum delay
/// before a retry.
const ATTEMPTS: u32 = 4;
const RETRY_DELAY: Duration = Duration::from_millis(50);

impl GraphqlService {
    /// Parses and validates a document; opens no session.
    ///
    /// # Errors
    ///
    /// When the document is not valid, or too many documents are being parsed.
    pub async fn prepare(
        &self,
        request: GraphqlRequest,
        source: Source<'_>,
    ) -> Result<Prepared, Vec<ServerError>> {
        let permit = async {
            // Boxed: large, and rarely needed.
            let permit = Box::pin(self.concurrency.acquire_reading(source)).await;
            permit.map_err(|error| {
                self.metrics.limited(&error);
                vec![refusal(&error, Uuid::nil())]
            })
        };
        let document = self.api.read(request, permit).await?;
        if document.introspects && !self.introspection {
            return Err(vec![Refusal::invalid("introspection is disabled on this server").into()]);
        }
        Ok(Prepared::new(document))
    }

    /// Executes an introspection query, which needs no session.
    pub async fn introspect(&self, prepared: Prepared, source: Source<'_>) -> Answer {
        let begun = Instant::now();
        let _permit = match Box::pin(self.concurrency.acquire_reading(source)).await {
            Ok(permit) => permit,
            Err(error) => {
                self.metrics.limited(&error);
                return Answer::failed(error, Uuid::nil());
            }
        };
        let answer = Answer::executed(self.api.execute(to_request(prepared.document())).await);
        // Without the operation's name: callers without a token must not choose metric labels.
        self.metrics.answered(None, answer.code(), begun.elapsed(), 0);
        answer
    }

    /// Executes an operation on behalf of its caller.
    pub async fn execute(self: Arc<Self>, prepared: Prepared, call: RequestContext) -> Answer {
        let request_id = call.request_id;
        let span = tracing::info_span!(
            "request",
            %request_id,
            operation = prepared.document().name,
            organization = Empty,
            user = Empty,
            code = Empty,
            statements = Empty,
            database_ms = Empty,
        );
        let (is_mutation, mutations) = (prepared.is_mutation(), self.mutations.clone());
        let work = async move { self.answer(&prepared, &call).await }.instrument(span);
        if is_mutation {
            let finished = mutations.spawn(work).await;
            finished.unwrap_or_else(|error| Answer::failed(Error::internal(error), request_id))
        } else {
            work.await
        }
    }

    /// Answers the operation, even if an execution fails or panics, and reports the answer to
    /// metrics and logs.
    async fn answer(&self, prepared: &Prepared, call: &RequestContext) -> Answer {
        let begun = Instant::now();
        let mut record = RequestRecord::default();
        // Boxed: large, and moved with every future around it.
        let answer = AssertUnwindSafe(Box::pin(self.run(prepared, call, &mut record)));
        let answer = answer.catch_unwind().await;
        record.end();
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                record.describe();
                self.metrics.limited(&error);
                Answer::failed(error, call.request_id)
            }
            Err(panic) => {
                record.describe();
                Answer::panicked(panic.as_ref(), call.request_id)
            }
        };
        let rate_limit = record.rate_limit().or(answer.rate_limit);
        let answer = Answer { rate_limit, ..answer }.costing(record.cost());
        self.note(prepared, &answer, begun.elapsed());
        if call.freshness.is_some() && !prepared.is_mutation() {
            self.metrics.replica_query(answer.served_by());
        }
        if telemetry::traces_are_sent() || tracing::enabled!(tracing::Level::DEBUG) {
            record.describe();
            answer.describe();
            tracing::debug!(elapsed = ?begun.elapsed(), "answered");
        }
        answer
    }

    /// Executes the operation, and executes it again if its context was outdated, the replica
    /// failed, or a mutation met a conflict: then nothing was written or returned.
    async fn run(
        &self,
        prepared: &Prepared,
        call: &RequestContext,
        record: &mut RequestRecord,
    ) -> Result<Answer> {
        if let Some(attempts) = prepared.attempts() {
            self.attempts.attempt(call.source(), attempts)?;
        }
        let open_for = &prepared.open_for();
        let deadline = tokio::time::Instant::now() + self.timeout;
        let execution = Execution { service: self, prepared, call, open_for, deadline };
        let mut read_from = call.freshness.map_or(ReadFrom::CachedContext, ReadFrom::Replica);
        let mut attempts = 1;
        loop {
            let executed = execution.run(read_from, record).await;
            let Ended { at_replica, has_committed } = record.end();
            match executed {
                Ok(Some(answer)) => return Ok(answer),
                // Rare: the caller or the organization has changed since the context was cached.
                Ok(None) => read_from = ReadFrom::Primary,
                // The primary may succeed where the replica failed.
                Err(error)
                    if at_replica && !matches!(error, Error::Timeout | Error::TooComplex(_)) =>
                {
                    tracing::info!(
                        cause = error.cause(),
                        "the replica failed; the primary serves the request"
                    );
                    read_from = ReadFrom::CachedContext;
                }
                // A call to another service cannot be undone.
                Err(error) if has_committed => return Err(error.after_the_fact()),
                Err(Error::Contention(cause)) if prepared.is_mutation() && attempts < ATTEMPTS => {
                    attempts += 1;
                    self.metrics.retried();
                    tracing::info!(%cause, "retrying a mutation after a conflict with another change");
                    // A random delay keeps two mutations that retry at the same time apart.
                    let delay =
                        RETRY_DELAY.mul_f64(f64::from(Uuid::new_v4().as_bytes()[0]) / 255.0);
                    tokio::time::sleep(delay).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Counts the call once the caller is known to be a member. Fails when the organization has no
    /// calls left. May wait for a lease of calls: the request then must not hold a connection for
    /// longer than its own work takes.
    pub(crate) async fn count(
        &self,
        organization: Option<Tenant>,
        billing_version: Option<DateTime<Utc>>,
    ) -> Result<Option<RateLimit>> {
        let Some(tenant) = organization else {
            return Ok(None);
        };
        self.meter.count(tenant.organization_id, billing_version).await
    }

    /// Records the outcome in the metrics.
    fn note(&self, prepared: &Prepared, answer: &Answer, elapsed: Duration) {
        let name = prepared.document().name.as_deref();
        self.metrics.answered(name, answer.code(), elapsed, answer.statements());
    }
}
