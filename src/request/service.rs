//! The GraphQL service: the life of a request around its executions. It parses, admits, counts,
//! retries conflicts, and reports every outcome to logs and metrics.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use async_graphql::ServerError;
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, field::Empty};
use uuid::Uuid;

use super::{
    RequestContext,
    answer::Answer,
    execute::{Executed, Execution},
    prepared::Prepared,
    trace::RequestTrace,
};
use crate::{
    admission::{AttemptLimiter, ConcurrencyLimiter, ConcurrencyPermit, RateLimiter, Source},
    error::{Error, Result},
    graphql::{Refusal, document::GraphqlRequest, refusal},
    metrics::Metrics,
    rate_limit::RateLimit,
    schema::{Api, to_request},
    telemetry,
    tenancy::{Access, Budget, Databases, Opened, Preference, Session, Settings, open},
    usage::Meter,
};

/// The maximum number of executions of one mutation that meets conflicts, and the maximum delay
/// before a retry.
const ATTEMPTS: u32 = 4;
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// Everything needed to execute requests; one per server.
#[derive(Debug)]
pub struct GraphqlService {
    /// The GraphQL schema.
    pub api: Api,
    /// The connection pools of all databases.
    pub databases: Databases,
    /// The clock and the settings of sessions.
    pub settings: Settings,
    /// Counts API calls.
    pub meter: Meter,
    /// Limits concurrent requests.
    pub concurrency: ConcurrencyLimiter,
    /// Limits attempts at guessing secrets and at sending e-mail.
    pub attempts: AttemptLimiter,
    /// Limits operations per user and per address.
    pub operations: RateLimiter,
    /// The server's metrics.
    pub metrics: Metrics,
    /// Running mutations. Shutdown waits for them, even if their clients have disconnected.
    pub mutations: TaskTracker,
    /// The time from a request's start until its COMMIT must be sent.
    pub timeout: Duration,
    /// The limit of statements and bytes per request.
    pub budget: Budget,
    /// Whether clients may introspect the schema.
    pub introspection: bool,
}

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

    /// Executes a request on behalf of its caller.
    pub async fn execute(self: Arc<Self>, prepared: Prepared, call: RequestContext) -> Answer {
        let begun = Instant::now();
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
        let work = async move {
            let trace = RequestTrace::new();
            let mut database_time = Duration::ZERO;
            // Boxed: large, and moved with every future around it.
            let answer =
                AssertUnwindSafe(Box::pin(self.execute_with_retry(&prepared, &call, &trace)));
            let answer = match answer.catch_unwind().await {
                Ok(Ok(executed)) => {
                    database_time = executed.database_time;
                    Answer {
                        replayed: executed.replayed,
                        lsn: executed.lsn,
                        at_replica: executed.at_replica,
                        ..Answer::executed(executed.response)
                    }
                }
                Ok(Err(error)) => {
                    trace.describe();
                    self.metrics.limited(&error);
                    Answer::failed(error, request_id)
                }
                Err(panic) => {
                    trace.describe();
                    Answer::panicked(panic.as_ref(), request_id)
                }
            };
            let counted = trace.counted.get().copied().flatten();
            let answer = Answer { rate_limit: counted.or(answer.rate_limit), ..answer };
            let answer = answer.costing(trace.spent());
            self.note(&prepared, &answer, begun.elapsed());
            if call.freshness.is_some() && !prepared.is_mutation() {
                self.metrics.replica_query(answer.served_by());
            }
            if telemetry::traces_are_sent() || tracing::enabled!(tracing::Level::DEBUG) {
                trace.describe();
                answer.describe(database_time);
                tracing::debug!(elapsed = ?begun.elapsed(), "answered");
            }
            answer
        }
        .instrument(span);
        if is_mutation {
            let finished = mutations.spawn(work).await;
            finished.unwrap_or_else(|error| Answer::failed(Error::internal(error), request_id))
        } else {
            work.await
        }
    }

    /// Executes the request, and executes it again after a conflict: then nothing was written or
    /// returned.
    async fn execute_with_retry(
        &self,
        prepared: &Prepared,
        call: &RequestContext,
        trace: &RequestTrace,
    ) -> Result<Executed> {
        if let Some(attempts) = prepared.attempts() {
            self.attempts.attempt(call.source(), attempts)?;
        }
        let deadline = tokio::time::Instant::now() + self.timeout;
        let mut attempts = 1;
        let mut freshness = call.freshness;
        loop {
            let execution = Execution::new(self, prepared, call, trace, freshness);
            match execution.perform(deadline).await {
                // The primary may succeed where the replica failed.
                Err(error)
                    if execution.is_at_replica()
                        && !matches!(error, Error::Timeout | Error::TooComplex(_)) =>
                {
                    tracing::info!(
                        cause = error.cause(),
                        "the replica failed; the primary serves the request"
                    );
                    freshness = None;
                }
                Err(Error::Contention(cause))
                    if prepared.is_mutation()
                        && attempts < ATTEMPTS
                        && !execution.is_partly_committed() =>
                {
                    attempts += 1;
                    self.metrics.retried();
                    tracing::info!(%cause, "retrying a mutation after a conflict with another change");
                    // A random delay keeps two mutations that retry at the same time apart.
                    let delay =
                        RETRY_DELAY.mul_f64(f64::from(Uuid::new_v4().as_bytes()[0]) / 255.0);
                    tokio::time::sleep(delay).await;
                }
                // A call to another service cannot be undone.
                Err(error) if execution.is_partly_committed() => return Err(error.after_the_fact()),
                outcome => return outcome,
            }
        }
    }

    /// Opens a session once the request is admitted and its call can be counted. The permit ends
    /// with the session, after the session's connection is free.
    ///
    /// # Errors
    ///
    /// As [`open`], and when the request is not admitted.
    pub(crate) async fn open(
        &self,
        call: &RequestContext,
        access: Access,
        preference: Preference,
    ) -> Result<Opened> {
        let RequestContext { caller, destination, .. } = call;
        let permit = self.concurrency.acquire(caller, destination).await.inspect_err(|_| {
            if let Some(organization) = self.concurrency.known(caller, destination) {
                Span::current().record("organization", tracing::field::display(organization.0));
            }
        })?;
        self.open_with_permit(permit, call, access, preference).await
    }

    async fn open_with_permit(
        &self,
        permit: ConcurrencyPermit,
        call: &RequestContext,
        access: Access,
        preference: Preference,
    ) -> Result<Opened> {
        let RequestContext { caller, destination, .. } = call;
        let open = async || {
            let Self { databases, settings, .. } = self;
            let opened = open(databases, settings, caller, destination, access, preference).await;
            if matches!(opened, Err(Error::OrganizationNotFound)) {
                self.concurrency.forget(caller, destination);
            }
            opened
        };
        let opened = open().await?;
        let Some(tenant) = opened.session.tenant() else {
            opened.session.transaction().hold(permit);
            return Ok(opened);
        };
        let (organization, version) = (tenant.organization_id, opened.billing_version);
        if opened.session.is_speculative()
            && !(permit.is_of(organization) && self.meter.has_room(organization, version))
        {
            // The caller may no longer be a member of the organization that would pay for what
            // follows.
            opened.session.transaction().roll_back().await;
            drop(opened);
            return Box::pin(self.open_with_permit(permit, call, access, Preference::Placement))
                .await;
        }
        let mut permit = if permit.is_of(organization) {
            Some(permit)
        } else {
            // Before the permit is returned: the caller's next request finds its way without one.
            self.concurrency.remember(caller, destination, organization);
            drop(permit);
            self.concurrency.try_acquire_own(organization)
        };
        let is_ready = self.meter.is_ready(organization, version);
        if let Some(permit) = permit.take_if(|_| is_ready) {
            opened.session.transaction().hold(permit);
            return Ok(opened);
        }
        // A request waits for a permit or a lease of calls without holding a connection. Behind a
        // connection pooler, that lease may have to wait for this very connection.
        opened.session.transaction().roll_back().await;
        drop(opened);
        let permit = match permit {
            Some(permit) => permit,
            None => self.concurrency.acquire_own(organization).await?,
        };
        if !is_ready {
            self.meter.prepare(organization, version).await?;
        }
        let opened = open().await?;
        opened.session.transaction().hold(permit);
        Ok(opened)
    }

    /// Counts the call once the caller is known to be a member. Fails, before anything is executed,
    /// when the organization has no calls left.
    pub(crate) async fn count(
        &self,
        session: &Session,
        billing_version: Option<DateTime<Utc>>,
    ) -> Result<Option<RateLimit>> {
        let Some(tenant) = session.tenant() else {
            return Ok(None);
        };
        self.meter.count(tenant.organization_id, billing_version).await
    }

    /// As [`count`](Self::count), but returns `None` instead of waiting.
    pub(super) fn count_at_once(
        &self,
        session: &Session,
        billing_version: Option<DateTime<Utc>>,
    ) -> Option<Result<Option<RateLimit>>> {
        let Some(tenant) = session.tenant() else {
            return Some(Ok(None));
        };
        self.meter.count_at_once(tenant.organization_id, billing_version)
    }

    /// Records the outcome in the metrics.
    fn note(&self, prepared: &Prepared, answer: &Answer, elapsed: Duration) {
        let name = prepared.document().name.as_deref();
        self.metrics.answered(name, answer.code(), elapsed, answer.statements());
    }
}
