//! One transaction on one connection, shared by everything that a request does.
//!
//! The connection goes back to the pool after a COMMIT or ROLLBACK that PostgreSQL has confirmed.
//! One that only read, and on which nothing runs any more, goes back at once: the next
//! transaction's first message begins with its ROLLBACK, and where there is no next one, a sweep of
//! the pool sends it within milliseconds. Nothing can come between, because a connection executes
//! in order.

use std::{
    any::Any,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use sea_orm::Values;
use tokio::time::timeout;
use tokio_postgres::Row;

use super::{
    budget::{Budget, Cost},
    connection::Answer,
    driver::Parameters,
    failure::Failure,
    lsn::{CommitLsn, Lsn},
    placement::Schema,
    pool::ConnectionPool,
    pooled_connection::{CLEAN, FORSAKEN, Held, LOST, PooledConnection},
    query_stats::QueryStats,
    speculative::{Speculative, first, is_lost, lead},
};
use crate::error::{DbErrorKind, Error, Exceeded, Result};

/// How long to wait for the answer to a COMMIT before calling its outcome unknown.
const COMMIT_WAIT: Duration = Duration::from_secs(30);

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// One snapshot for the whole request, and no writing.
    Read,
    /// Each statement sees what others have committed, so that a lock followed by a count is exact.
    Write,
}

impl Access {
    /// The statement, behind the end of the transaction before where that is still open.
    pub(super) fn begin(self, behind: bool) -> &'static str {
        match (self, behind) {
            (Self::Read, false) => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            (Self::Read, true) => "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            // Not READ WRITE: a database that was made read-only (`default_transaction_read_only`)
            // means it.
            (Self::Write, false) => "BEGIN ISOLATION LEVEL READ COMMITTED",
            (Self::Write, true) => "ROLLBACK; BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }
}

/// A transaction; open until [`commit`](Self::commit), [`release`](Self::release) or its drop.
/// Statements that do not wait for each other are sent together, and executed in the order in which
/// they were begun.
pub struct Transaction {
    connection: Mutex<Option<Arc<PooledConnection>>>,
    speculative: Mutex<Option<Speculative>>,
    /// The failure that others may have followed from.
    failure: OnceLock<Failure>,
    /// A statement that was refused because another one had failed.
    consequence: OnceLock<Failure>,
    statements: QueryStats,
    held: OnceLock<Held>,
    /// Where tables without a schema are, if not in the shared ones.
    schema: Mutex<Option<Schema>>,
    commit_lsn: CommitLsn,
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Transaction")
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

impl Transaction {
    /// Begins one, and sends a first statement along: the answer to it comes with the transaction.
    /// Behind it tables without a schema are those of `schema`, if there is one.
    pub(super) async fn begin(
        connections: &ConnectionPool,
        access: Access,
        schema: Option<&Schema>,
        sql: &str,
        parameters: &Parameters,
    ) -> Result<(Self, Vec<Row>)> {
        let mut retried = false;
        loop {
            // From here on, whatever is cancelled leaves no open transaction behind.
            let connection = PooledConnection::new(connections).await?;
            let sent = Instant::now();
            match first(&connection, access, schema, sql, parameters).await {
                Ok(answer) => {
                    let transaction = Self::new(connection, schema.cloned(), sent.elapsed());
                    return Ok((transaction, answer.rows));
                }
                // One that died in the pool, or that has prepared its statements before a
                // migration, is no reason to fail: nothing has happened on it. The others are
                // probably no better.
                Err(error) if !retried && is_lost(&error) => {
                    retried = true;
                    connections.discard_idle();
                }
                Err(error) => {
                    if DbErrorKind::of(&error) == DbErrorKind::ReadOnly {
                        connection.link()?.abandon();
                    }
                    return Err(error.into());
                }
            }
        }
    }

    /// Begins one in the same way and waits for nothing: what follows is sent along, and executed
    /// behind. Whether all of that began at all, [`first_answer`](Self::first_answer) tells.
    pub(super) async fn begin_speculative(
        connections: &ConnectionPool,
        access: Access,
        schema: Option<&Schema>,
        sql: &'static str,
        parameters: Parameters,
    ) -> Result<Self> {
        let connection = Arc::new(PooledConnection::new(connections).await?);
        let first = {
            let (connection, schema) = (Arc::clone(&connection), schema.cloned());
            async move { first(&connection, access, schema.as_ref(), sql, &parameters).await }
        };
        let speculative = Speculative::begin(connection.link()?, first).await;
        let transaction = Self::on(connection, schema.cloned(), Duration::ZERO);
        *lock(&transaction.speculative) = Some(speculative);
        Ok(transaction)
    }

    /// What the first statement answered, where nobody has waited for it; said once. Whoever sends
    /// other statements must be waiting for this as well: what is not taken from a connection holds
    /// up what comes behind.
    pub(super) async fn first_answer(&self) -> Option<Result<Vec<Row>, sqlx::Error>> {
        let speculative = lock(&self.speculative).take()?;
        let waiting = Instant::now();
        let answer = speculative.answer().await;
        self.statements.add(0, waiting.elapsed());
        Some(answer.map(|answer| answer.rows))
    }

    pub(super) fn new(
        connection: PooledConnection,
        schema: Option<Schema>,
        opening: Duration,
    ) -> Self {
        Self::on(Arc::new(connection), schema, opening)
    }

    fn on(connection: Arc<PooledConnection>, schema: Option<Schema>, opening: Duration) -> Self {
        Self {
            connection: Mutex::new(Some(connection)),
            speculative: Mutex::default(),
            failure: OnceLock::new(),
            consequence: OnceLock::new(),
            statements: QueryStats::after(opening),
            held: OnceLock::new(),
            schema: Mutex::new(schema),
            commit_lsn: CommitLsn::default(),
        }
    }

    fn connection(&self) -> MutexGuard<'_, Option<Arc<PooledConnection>>> {
        lock(&self.connection)
    }

    /// Goes on in other tables: those of a schema, or the shared ones.
    pub(super) async fn go_to(&self, schema: Option<&Schema>) -> Result<()> {
        if *lock(&self.schema) == schema.cloned() {
            return Ok(());
        }
        let connection = self.connection().clone().ok_or(sqlx::Error::PoolClosed)?;
        self.statements.add(1, Duration::ZERO);
        let link = connection.link()?;
        match schema {
            Some(_) => lead(link, schema).await?,
            None => link.execute("SET LOCAL search_path TO DEFAULT").await?,
        }
        *lock(&self.schema) = schema.cloned();
        Ok(())
    }

    /// Runs a statement.
    pub(super) async fn query(
        &self,
        sql: &str,
        values: Option<Values>,
    ) -> Result<Answer, sqlx::Error> {
        let parameters = Parameters::of(values)?;
        let connection = self.connection().clone().ok_or(sqlx::Error::PoolClosed)?;
        let mut running = self.statements.begin(sql).map_err(|exceeded| self.exceeded(exceeded))?;
        let schema = lock(&self.schema).clone();
        let read = |bytes| self.statements.spend(bytes);
        let outcome = connection.link()?.query(schema.as_ref(), sql, &parameters, read).await;
        running.answered = true;
        drop(running);
        if let Err(error) = &outcome {
            let failure = Failure::of(error);
            if failure.kind == DbErrorKind::ReadOnly {
                // It may lead to a primary of the past.
                connection.link()?.abandon();
            }
            // The first failure is the cause; what is sent after it is refused with this code.
            let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
            if code.as_deref() == Some("25P02") {
                let _ = self.consequence.set(failure);
                if self.failure.get().is_none() {
                    // The cause was answered before: whoever waits for that gets to look, before
                    // this answer makes others give up.
                    tokio::task::yield_now().await;
                }
            } else {
                let _ = self.failure.set(failure);
            }
        }
        outcome
    }

    /// The first statement that failed, whatever became of its error since: the transaction is
    /// lost.
    pub fn failure(&self) -> Option<Error> {
        let failure = self.failure.get().or_else(|| self.consequence.get());
        failure.map(Error::from)
    }

    /// Holds what follows against a budget. What passes it fails, and with it the transaction.
    pub fn limit(&self, budget: Budget) {
        self.statements.limit(budget);
    }

    /// Counts a long text of the answer against the budget.
    ///
    /// # Errors
    ///
    /// When the answer is too large; the transaction is lost.
    pub fn spend(&self, bytes: usize) -> Result<()> {
        let spent = self.statements.spend(bytes);
        spent.map_err(|exceeded| Error::TooComplex(self.exceeded(exceeded)))
    }

    fn exceeded(&self, exceeded: Exceeded) -> Exceeded {
        // The first failure is the cause.
        let _ = self.failure.set(exceeded.into());
        exceeded
    }

    /// What it has cost so far.
    pub fn cost(&self) -> Cost {
        self.statements.cost()
    }

    /// Keeps something until the transaction is over and its connection is free, whatever becomes
    /// of whoever waits for it.
    pub fn hold(&self, held: impl Any + Send + Sync) {
        let held: Held = Arc::new(held);
        if let Some(connection) = self.connection().as_ref() {
            connection.hold(Arc::clone(&held));
        }
        // Set once: a request has one turn.
        let _ = self.held.set(held);
    }

    /// Nobody waits for a statement.
    pub fn is_idle(&self) -> bool {
        self.statements.are_answered()
    }

    /// How many statements were sent to PostgreSQL so far; the opening is one.
    pub fn statements(&self) -> u32 {
        self.statements.count()
    }

    /// How long the answers to them took together, which is more than what was waited for where
    /// several were on their way.
    pub fn database_time(&self) -> Duration {
        self.statements.time()
    }

    /// Commits, and returns only when PostgreSQL has said so.
    ///
    /// # Errors
    ///
    /// When nothing was committed, or ([`Error::CommitOutcomeUnknown`]) nobody can tell.
    pub async fn commit(&self) -> Result<()> {
        let Some(connection) = self.connection().take() else {
            return Err(Error::internal("the transaction is finished already"));
        };
        let link = connection.link()?;
        if link.is_closed() {
            // Nothing was sent, so nothing was committed.
            return Err(Error::Unavailable(Arc::new(sqlx::Error::PoolClosed)));
        }
        self.statements.add(1, Duration::ZERO);
        // COMMIT of a failed transaction answers ROLLBACK without an error; a statement before it
        // does not. Behind it, and not with it: what fails there says nothing of the commit.
        let (committed, marked) = tokio::join!(biased;
            timeout(COMMIT_WAIT, link.execute("SELECT 1; COMMIT")),
            timeout(COMMIT_WAIT, self.commit_lsn.set(link)),
        );
        match committed {
            Ok(Ok(())) => {
                connection.set(if marked.is_ok_and(|marked| marked.is_ok()) {
                    CLEAN
                } else {
                    LOST
                });
                Ok(())
            }
            Ok(Err(error)) if DbErrorKind::of(&error) == DbErrorKind::Connection => {
                connection.set(LOST);
                Err(Error::CommitOutcomeUnknown(Arc::new(error)))
            }
            Ok(Err(error)) => {
                connection.roll_back().await;
                Err(error.into())
            }
            Err(elapsed) => {
                connection.set(LOST);
                Err(Error::CommitOutcomeUnknown(Arc::new(elapsed)))
            }
        }
    }

    /// What tells replicas that have what was committed here from those that do not yet.
    pub(super) fn commit_lsn(&self) -> &CommitLsn {
        &self.commit_lsn
    }

    /// Whoever has replayed up to here has what was committed; where nobody wants to know that, and
    /// where it is not known, none.
    pub fn lsn(&self) -> Option<Lsn> {
        self.commit_lsn.get()
    }

    /// Looks where the primary is, for the sake of what was committed before and is found here.
    pub async fn locate(&self) {
        let connection = self.connection().clone();
        if let Some(Ok(link)) = connection.as_ref().map(|connection| connection.link()) {
            // Then it is not known.
            let _ = self.commit_lsn.set(link).await;
        }
    }

    /// The open transaction under another name; this one goes on with another.
    pub(super) fn set_aside(&self) -> Self {
        Self {
            connection: Mutex::new(self.connection().take()),
            speculative: Mutex::default(),
            failure: OnceLock::new(),
            consequence: OnceLock::new(),
            statements: QueryStats::after(Duration::ZERO),
            held: OnceLock::new(),
            schema: Mutex::new(lock(&self.schema).take()),
            commit_lsn: CommitLsn::default(),
        }
    }

    /// Goes on with another transaction, which was just begun, after this one was finished.
    pub(super) fn replace(&self, fresh: &Self) {
        self.statements.add(fresh.statements(), fresh.database_time());
        let connection = fresh.connection().take();
        if let (Some(connection), Some(held)) = (&connection, self.held.get()) {
            connection.hold(Arc::clone(held));
        }
        *self.connection() = connection;
        *lock(&self.schema) = lock(&fresh.schema).take();
    }

    /// Ends a transaction that only read, and waits for nothing.
    pub fn release(&self) {
        debug_assert!(lock(&self.speculative).is_none(), "nobody has asked whether it began");
        let connection = self.connection().take();
        // What was abandoned may run for long: then the rollback is waited for, behind everybody's
        // back.
        let quiet = self.is_idle() && !self.statements.any_abandoned();
        if let Some(connection) = connection.filter(|_| quiet) {
            connection.set(FORSAKEN);
        }
    }

    /// Ends the transaction without keeping anything, and waits until that is done.
    pub async fn roll_back(&self) {
        let connection = self.connection().take();
        if let Some(connection) = connection {
            connection.roll_back().await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
