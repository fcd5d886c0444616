//! One GraphQL request, end to end: read, validate, open a session, execute, commit, answer.
//!
//! A query that is abandoned is cancelled; a mutation runs to its end, so that nobody has to guess how far it came.
//! Either way the transaction ends here, and a mutation is answered only after its COMMIT was.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use async_graphql::{Response, ServerError, Value};
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use uuid::Uuid;

use crate::{
    auth::{Caller, Permission},
    error::{Error, Result},
    graphql::{
        Loaders, Queue, Refusal,
        document::{Document, GraphqlRequest},
        present, refusal,
    },
    plan,
    rate_limit::RateLimit,
    schema::{Api, BILLING, to_request},
    tenancy::{Access, Destination, Environment, Opened, Placement, Session, open},
    usage::Meter,
};

/// Everything that answering takes; one for the whole server.
#[derive(Debug)]
pub struct Engine {
    /// The schema.
    pub api: Api,
    /// The databases.
    pub placement: Placement,
    /// Time and rules.
    pub environment: Environment,
    /// Counts calls.
    pub meter: Meter,
    /// How long a request may take until its COMMIT is sent.
    pub timeout: Duration,
    /// Whether the schema may be explored.
    pub introspection: bool,
}

/// What became of a request.
#[derive(Debug)]
pub struct Answer {
    /// Errors and, if it was executed, data.
    pub response: Response,
    /// It was executed: the response has `data`, null when it failed.
    pub executed: bool,
    /// What gives the HTTP response a status of its own.
    pub failure: Option<Error>,
    /// Messages sent to the database, the opening one and the COMMIT included.
    pub statements: u32,
    /// What is left of the organization's calls, where its plan limits them.
    pub rate_limit: Option<RateLimit>,
}

impl Answer {
    fn executed(response: Response, statements: u32) -> Self {
        Self { response, executed: true, failure: None, statements, rate_limit: None }
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
        Self { response, executed, failure: Some(error), statements: 0, rate_limit }
    }

    /// The document was refused for what it is.
    #[must_use]
    pub fn refused(errors: Vec<ServerError>) -> Self {
        let response = Response::from_errors(errors);
        Self { response, executed: false, failure: None, statements: 0, rate_limit: None }
    }
}

/// A request that was read and validated.
#[derive(Debug)]
pub struct Prepared {
    document: Document,
}

impl Prepared {
    /// Needs neither a person nor a transaction.
    #[must_use]
    pub fn introspection_only(&self) -> bool {
        self.document.introspection_only
    }

    /// It changes billing and nothing else.
    fn is_about_billing(&self) -> bool {
        let changes = self.document.changes.as_deref().unwrap_or_default();
        !changes.is_empty()
            && !self.document.reads_back
            && changes.iter().all(|field| BILLING.contains(&field.as_str()))
    }

    /// The field that it subscribes to, if it does.
    #[must_use]
    pub fn subscribes_to(&self) -> Option<&str> {
        self.document.subscribes_to.as_deref()
    }

    pub(crate) fn document(&self) -> &Document {
        &self.document
    }

    /// Changes something, or tries to.
    #[must_use]
    pub fn is_mutation(&self) -> bool {
        self.document.is_mutation()
    }
}

impl Engine {
    /// Reads and validates; nothing is opened yet.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the document.
    pub async fn prepare(&self, request: GraphqlRequest) -> Result<Prepared, Vec<ServerError>> {
        let document = self.api.read(request).await?;
        if document.introspects && !self.introspection {
            return Err(vec![Refusal::invalid("introspection is switched off").into()]);
        }
        Ok(Prepared { document })
    }

    /// Executes what needs no session.
    pub async fn introspect(&self, prepared: Prepared) -> Answer {
        Answer::executed(self.api.execute(to_request(&prepared.document)).await, 0)
    }

    /// Executes for a caller.
    pub async fn execute(
        self: Arc<Self>,
        prepared: Prepared,
        caller: Arc<Caller>,
        destination: Destination,
        request_id: Uuid,
    ) -> Answer {
        let is_mutation = prepared.document.is_mutation();
        let work = async move {
            let counted = OnceLock::new();
            let work = self.perform(prepared, &caller, &destination, request_id, &counted);
            let answer = match AssertUnwindSafe(work).catch_unwind().await {
                Ok(Ok((response, statements))) => Answer::executed(response, statements),
                Ok(Err(error)) => Answer::failed(error, request_id),
                Err(panic) => Answer::executed(null(&panicked(panic.as_ref()), request_id), 0),
            };
            Answer { rate_limit: counted.into_inner().or(answer.rate_limit), ..answer }
        };
        if is_mutation {
            let finished = tokio::spawn(work).await;
            finished.unwrap_or_else(|error| Answer::failed(Error::internal(error), request_id))
        } else {
            work.await
        }
    }

    async fn perform(
        &self,
        prepared: Prepared,
        caller: &Caller,
        destination: &Destination,
        request_id: Uuid,
        counted: &OnceLock<RateLimit>,
    ) -> Result<(Response, u32)> {
        let access = if prepared.document.is_mutation() { Access::Write } else { Access::Read };
        let partly_committed = OnceLock::new();
        let execution = async {
            let opened = self.open(caller, destination, access).await?;
            let session = Arc::new(opened.session);
            // Set once: a request opens one session.
            let _ = partly_committed.set(session.partly_committed());
            match self.count(&session, opened.billing_version, counted).await {
                // Whoever is to upgrade the plan must be able to.
                Err(Error::CallsExhausted(rate)) if prepared.is_about_billing() => {
                    let _ = counted.set(rate);
                }
                outcome => outcome?,
            }
            if prepared.document.changes.as_ref().is_some_and(|changes| changes.len() > 1)
                && session.in_organization()
            {
                // Several changes lock several rows: first of all the one that all others begin with, else two such requests
                // could wait for each other.
                plan::lock(&session).await?;
            }
            let mut response = self.resolve(prepared, &session, access).await;
            response.extensions = notices(opened.moved_to);
            Ok::<_, Error>((session, response))
        };
        // Dropping the execution drops the session, whose transaction then rolls back.
        let (session, mut response) =
            tokio::time::timeout(self.timeout, execution).await.map_err(|elapsed| {
                let partly =
                    partly_committed.get().is_some_and(|partly| partly.load(Ordering::Relaxed));
                if partly { Error::OutcomeUnknown(Arc::new(elapsed)) } else { Error::Timeout }
            })??;
        let transaction = session.transaction();
        if let Some(failure) = transaction.failure() {
            // One failed statement fails all that follow: the first error is the one to tell.
            transaction.roll_back().await;
            return match failure {
                Error::Internal(_) => Ok((null(&failure, request_id), transaction.statements())),
                failure => Err(failure),
            };
        }
        present(&mut response, request_id);
        match access {
            Access::Read => transaction.release(),
            Access::Write if response.data == Value::Null => transaction.roll_back().await,
            Access::Write => match session.commit().await {
                Ok(()) => {}
                // Refused by PostgreSQL: executed, and come to nothing.
                Err(error @ Error::Internal(_)) => response = null(&error, request_id),
                Err(error) => return Err(error),
            },
        }
        Ok((response, transaction.statements()))
    }

    /// Opens a session in which the call can be counted at once: whoever waits for a lease of calls holds no connection meanwhile,
    /// because behind a pooler the lease may have to wait for that very one.
    pub(crate) async fn open(
        &self,
        caller: &Caller,
        destination: &Destination,
        access: Access,
    ) -> Result<Opened> {
        let Self { placement, environment, meter, .. } = self;
        let opened = open(placement, environment, caller, destination, access).await?;
        let (session, version) = (&opened.session, opened.billing_version);
        let Ok(tenant) = session.authorize(Permission::OrganizationRead) else {
            return Ok(opened);
        };
        if meter.is_ready(tenant.organization_id, version) {
            return Ok(opened);
        }
        session.transaction().roll_back().await;
        meter.prepare(tenant.organization_id, version).await?;
        open(placement, environment, caller, destination, access).await
    }

    /// Counts the call, once it is known to be a member's; nothing is resolved for one too many.
    pub(crate) async fn count(
        &self,
        session: &Session,
        billing_version: Option<DateTime<Utc>>,
        counted: &OnceLock<RateLimit>,
    ) -> Result<()> {
        let Ok(tenant) = session.authorize(Permission::OrganizationRead) else {
            return Ok(());
        };
        if let Some(rate) = self.meter.count(tenant.organization_id, billing_version).await? {
            // Set once: a request is counted once.
            let _ = counted.set(rate);
        }
        Ok(())
    }

    async fn resolve(
        &self,
        prepared: Prepared,
        session: &Arc<Session>,
        access: Access,
    ) -> Response {
        let queue = Queue::default();
        let request = to_request(&prepared.document)
            .data(Arc::clone(session))
            .data(self.meter.clone())
            .data(Loaders::new(Arc::clone(session), queue.clone(), access));
        queue.drive(session.transaction(), self.api.execute(request)).await
    }
}

/// The answer to a request that came to nothing during execution.
fn null(error: &Error, request_id: Uuid) -> Response {
    Response::from_errors(vec![refusal(error, request_id)])
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    Error::internal(format!("panic: {message}"))
}

/// What a client should know about the way its request took.
fn notices(moved_to: Option<String>) -> BTreeMap<String, Value> {
    moved_to.map(|slug| ("organizationSlug".to_owned(), Value::from(slug))).into_iter().collect()
}
