//! What became of a request.

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

/// What became of a request.
#[derive(Debug)]
pub struct Answer {
    /// Errors and, if it was executed, data.
    pub response: Response,
    /// It was executed: the response has `data`, null when it failed.
    pub executed: bool,
    /// It was executed before, and this is the answer of then.
    pub replayed: bool,
    /// What gives the HTTP response a status of its own.
    pub failure: Option<Error>,
    /// What it took: messages sent to the database, the opening one and the COMMIT included, and
    /// bytes. `None`: more than its budget.
    pub cost: Option<Cost>,
    /// What is left of the organization's calls, where its plan limits them.
    pub rate_limit: Option<RateLimit>,
    /// What a replica must have to have what was written, where there is a replica.
    pub lsn: Option<Lsn>,
    /// The replica has answered.
    pub at_replica: bool,
}

impl Answer {
    pub(super) fn executed(response: Response, cost: Cost) -> Self {
        Self {
            response,
            executed: true,
            replayed: false,
            failure: None,
            cost: Some(cost),
            rate_limit: None,
            lsn: None,
            at_replica: false,
        }
    }

    /// Nothing was executed, or nothing of it came to anything.
    #[must_use]
    pub fn failed(error: Error, request_id: Uuid) -> Self {
        let response = Response::from_errors(vec![refusal(&error, request_id)]);
        // Whether something was written is what `data` would tell, so here it must be there.
        let executed = matches!(error, Error::CommitOutcomeUnknown(_) | Error::OutcomeUnknown(_));
        let rate_limit = match &error {
            Error::CallsExhausted(rate) => Some(*rate),
            _ => None,
        };
        // As a document that is refused beforehand: it says so without a status of its own.
        let is_too_complex = matches!(error, Error::TooComplex(_));
        let answer = Self::executed(response, Cost::default());
        let cost = answer.cost.filter(|_| !is_too_complex);
        let failure = Some(error).filter(|_| !is_too_complex);
        Self { executed, failure, cost, rate_limit, ..answer }
    }

    /// A resolver has panicked.
    pub(super) fn panicked(panic: &(dyn std::any::Any + Send), request_id: Uuid) -> Self {
        let message = panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        let error = Error::internal(format!("panic: {message}"));
        Self::executed(null(&error, request_id), Cost::default())
    }

    /// The document was refused for what it is, or not even read because of a limit.
    #[must_use]
    pub fn refused(errors: Vec<ServerError>) -> Self {
        let failure = errors.first().and_then(|error| error.source::<Error>()).cloned();
        let answer = Self::executed(Response::from_errors(errors), Cost::default());
        Self { executed: false, failure, ..answer }
    }

    /// Tells the request's span what became of it.
    pub(super) fn describe(&self, database_time: Duration) {
        let span = Span::current();
        span.record("code", self.code().unwrap_or("OK"));
        span.record("statements", self.statements());
        span.record("database_ms", database_time.as_secs_f64() * 1_000.0);
    }

    /// Messages sent to the database, as far as they are known.
    #[must_use]
    pub fn statements(&self) -> u32 {
        self.cost.unwrap_or_default().statements
    }

    /// Which database has answered.
    #[must_use]
    pub fn served_by(&self) -> &'static str {
        if self.at_replica { "replica" } else { "primary" }
    }

    /// The code of its first error.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        code(self.response.errors.first()?)
    }
}

/// The code of an error.
#[must_use]
pub fn code(error: &ServerError) -> Option<&str> {
    match error.extensions.as_ref()?.get("code")? {
        Value::String(code) => Some(code),
        _ => None,
    }
}

/// The answer to a request that came to nothing during execution.
pub(super) fn null(error: &Error, request_id: Uuid) -> Response {
    Response::from_errors(vec![refusal(error, request_id)])
}
