//! The answer to an operation: the GraphQL response, and what the HTTP layer, logs and metrics need
//! to know about it. The execution creates it, and the transport sends it.

use std::time::Duration;

use async_graphql::{Response, ServerError, Value};
use tracing::Span;
use uuid::Uuid;

use crate::{
    error::Error,
    graphql::refusal,
    rate_limit::RateLimit,
    tenancy::{Cost, Lsn},
};

/// The outcome of a request.
#[derive(Debug)]
pub struct Answer {
    /// The GraphQL response: errors and, if the request was executed, `data`.
    pub response: Response,
    /// Whether the request was executed. Then the response has `data`, which is null on failure.
    pub executed: bool,
    /// Whether this is the stored response of an earlier request with the same idempotency key.
    pub replayed: bool,
    /// The error that determines the HTTP status, if there is one.
    pub failure: Option<Error>,
    /// Messages sent to the database (the opening and COMMIT included) and bytes read. `None` when
    /// the request exceeded its budget.
    pub cost: Option<Cost>,
    /// The state of the organization's call limit, if its plan has one.
    pub rate_limit: Option<RateLimit>,
    /// The WAL position that a replica must have replayed to contain the change. `None` without a
    /// replica.
    pub lsn: Option<Lsn>,
    /// Whether the replica served the request.
    pub at_replica: bool,
    /// The sum of the times that PostgreSQL took.
    pub database_time: Duration,
}

impl Answer {
    pub(super) fn executed(response: Response) -> Self {
        Self {
            response,
            executed: true,
            replayed: false,
            failure: None,
            cost: Some(Cost::default()),
            rate_limit: None,
            lsn: None,
            at_replica: false,
            database_time: Duration::ZERO,
        }
    }

    /// A request that failed as a whole, before or during execution.
    #[must_use]
    pub fn failed(error: Error, request_id: Uuid) -> Self {
        let response = Response::from_errors(vec![refusal(&error, request_id)]);
        // `data: null` promises that nothing was written, and `outcome` reports an unknown outcome.
        // Both belong to an executed request.
        let executed = matches!(error, Error::CommitOutcomeUnknown(_) | Error::OutcomeUnknown(_));
        let rate_limit = match &error {
            Error::CallsExhausted(rate) => Some(*rate),
            _ => None,
        };
        // Like a document that is too complex in itself, this error does not change the HTTP
        // status.
        let is_too_complex = matches!(error, Error::TooComplex(_));
        let answer = Self::executed(response);
        let cost = answer.cost.filter(|_| !is_too_complex);
        let failure = Some(error).filter(|_| !is_too_complex);
        Self { executed, failure, cost, rate_limit, ..answer }
    }

    /// A request in which a resolver panicked.
    pub(super) fn panicked(panic: &(dyn std::any::Any + Send), request_id: Uuid) -> Self {
        let message = panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        let error = Error::internal(format!("panic: {message}"));
        Self::executed(null(&error, request_id))
    }

    /// A document that was refused, or that a limit kept from being parsed.
    #[must_use]
    pub fn refused(errors: Vec<ServerError>) -> Self {
        let failure = errors.first().and_then(|error| error.source::<Error>()).cloned();
        let answer = Self::executed(Response::from_errors(errors));
        Self { executed: false, failure, ..answer }
    }

    /// What it took, unless that was more than its budget.
    #[must_use]
    pub(super) fn costing(self, cost: Cost) -> Self {
        Self { cost: self.cost.map(|_| cost), ..self }
    }

    /// Records the outcome in the request's span.
    pub(super) fn describe(&self) {
        let span = Span::current();
        span.record("code", self.code().unwrap_or("OK"));
        span.record("statements", self.statements());
        span.record("database_ms", self.database_time.as_secs_f64() * 1_000.0);
    }

    /// Messages sent to the database; 0 if the number is not known.
    #[must_use]
    pub fn statements(&self) -> u32 {
        self.cost.unwrap_or_default().statements
    }

    /// The database that served the request: `primary` or `replica`.
    #[must_use]
    pub fn served_by(&self) -> &'static str {
        if self.at_replica { "replica" } else { "primary" }
    }

    /// The code of the first error.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        code(self.response.errors.first()?)
    }
}

/// The `code` extension of an error.
#[must_use]
pub fn code(error: &ServerError) -> Option<&str> {
    match error.extensions.as_ref()?.get("code")? {
        Value::String(code) => Some(code),
        _ => None,
    }
}

/// The response to a request that failed during execution: one error, and `data: null`.
pub(super) fn null(error: &Error, request_id: Uuid) -> Response {
    Response::from_errors(vec![refusal(error, request_id)])
}
