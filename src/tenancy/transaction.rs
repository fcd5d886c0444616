//! One transaction on one connection, shared by all parts of a request.
//!
//! The connection returns to the pool after PostgreSQL has confirmed COMMIT or ROLLBACK. A finished
//! read-only transaction returns it at once and defers the rollback: the next transaction's first
//! message, or the pool's reaper within milliseconds, sends it. The order of execution on a
//! connection keeps other statements from coming between.

use std::{
    any::Any,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::Values;
use tokio::time::timeout;
use tokio_postgres::Row;

use super::{
    connection::Answer,
    lsn::{CommitLsn, Lsn},
    placement::Schema,
    pool::ConnectionPool,
    pooled_connection::{CLEAN, Held, LOST, PooledConnection, ROLLBACK_DEFERRED},
    query_budget::{Budget, Cost},
    query_stats::QueryStats,
    sea_orm_adapter::Parameters,
    speculative::{Speculative, first, is_lost, lead},
    transaction_error::TransactionError,
};
use crate::error::{DbErrorKind, Error, Exceeded, Result};

/// How long to wait for the answer to COMMIT before its outcome counts as unknown.
const COMMIT_WAIT: Duration = Duration::from_secs(30);

/// Whether a transaction may write, and what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// One snapshot for the whole request; no writes.
    Read,
    /// Each statement sees what was committed before it, so a count behind a lock is exact.
    Write,
}

impl Access {
    /// The statement, preceded by a deferred rollback if `behind` is set.
    pub(super) fn begin(self, behind: bool) -> &'static str {
        match (self, behind) {
            (Self::Read, false) => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            (Self::Read, true) => "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            // Without READ WRITE, so that an operator's `default_transaction_read_only` applies.
            (Self::Write, false) => "BEGIN ISOLATION LEVEL READ COMMITTED",
            (Self::Write, true) => "ROLLBACK; BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }
}

/// A transaction, open until [`commit`](Self::commit), [`release`](Self::release) or its drop.
/// Concurrent statements are sent together, and execute in the order in which they were begun.
pub struct Transaction {
    connection: Mutex<Option<Arc<PooledConnection>>>,
    speculative: Mutex<Option<Speculative>>,
    /// The failure that caused the others.
    failure: OnceLock<TransactionError>,
    /// The refusal of a statement after another one had failed.
    consequence: OnceLock<TransactionError>,
    pub(super) statements: QueryStats,
    held: OnceLock<Held>,
    /// The dedicated schema, if the transaction uses one.
    schema: Option<Schema>,
    commit_lsn: CommitLsn,
    /// Whether it has committed, even if it continues.
    committed: AtomicBool,
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
    /// Begins a transaction with its first statement in one message. Table names without a schema
    /// then resolve to `schema`, if there is one.
    pub(super) async fn begin(
        connections: &ConnectionPool,
        access: Access,
        schema: Option<&Schema>,
        sql: &str,
        parameters: &Parameters,
    ) -> Result<(Self, Vec<Row>)> {
        let mut retried = false;
        loop {
            // From here on, a cancelled task leaves no open transaction behind.
            let connection = PooledConnection::new(connections).await?;
            let sent = Instant::now();
            match first(&connection, access, schema, sql, parameters).await {
                Ok(answer) => {
                    let transaction = Self::new(connection, schema.cloned(), sent.elapsed());
                    return Ok((transaction, answer.rows));
                }
                // The connection died in the pool or has outdated statements. Nothing was executed,
                // so another try is safe. The idle connections are probably no better.
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

    /// Begins a transaction speculatively: later statements are sent behind the first one without
    /// waiting for it. [`first_answer`](Self::first_answer) reports whether it began at all.
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

    /// The answer to the first statement of a speculative transaction, returned once. Await it
    /// concurrently with other statements: unread answers block those behind them.
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
            schema,
            commit_lsn: CommitLsn::default(),
            committed: AtomicBool::new(false),
        }
    }

    fn connection(&self) -> MutexGuard<'_, Option<Arc<PooledConnection>>> {
        lock(&self.connection)
    }

    /// Switches to the tables of a dedicated schema, or to the shared tables.
    pub(super) async fn go_to(&mut self, schema: Option<&Schema>) -> Result<()> {
        if self.schema.as_ref() == schema {
            return Ok(());
        }
        let connection = self.connection().clone().ok_or(sqlx::Error::PoolClosed)?;
        self.statements.add(1, Duration::ZERO);
        let link = connection.link()?;
        match schema {
            Some(_) => lead(link, schema).await?,
            None => link.execute("SET LOCAL search_path TO DEFAULT").await?,
        }
        self.schema = schema.cloned();
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
        let read = |bytes| self.statements.spend(bytes);
        let outcome = connection.link()?.query(self.schema.as_ref(), sql, &parameters, read).await;
        running.answered = true;
        drop(running);
        if let Err(error) = &outcome {
            let failure = TransactionError::of(error);
            if failure.kind == DbErrorKind::ReadOnly {
                // The connection may lead to a server that is no longer the primary.
                connection.link()?.abandon();
            }
            // 25P02: the statement was refused because an earlier one had failed.
            let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
            if code.as_deref() == Some("25P02") {
                let _ = self.consequence.set(failure);
                if self.failure.get().is_none() {
                    // The cause was received before. Its task records it first, if this one yields.
                    tokio::task::yield_now().await;
                }
            } else {
                let _ = self.failure.set(failure);
            }
        }
        outcome
    }

    /// The first failure of a statement, after which the transaction cannot commit.
    pub fn failure(&self) -> Option<Error> {
        let failure = self.failure.get().or_else(|| self.consequence.get());
        failure.map(Error::from)
    }

    /// Sets the budget. Exceeding it fails the transaction.
    pub fn limit(&self, budget: Budget) {
        self.statements.limit(budget);
    }

    /// Counts a long text of the response against the budget.
    ///
    /// # Errors
    ///
    /// When the response is too large; the transaction has then failed.
    pub fn spend(&self, bytes: usize) -> Result<()> {
        let spent = self.statements.spend(bytes);
        spent.map_err(|exceeded| Error::TooComplex(self.exceeded(exceeded)))
    }

    pub(super) fn exceeded(&self, exceeded: Exceeded) -> Exceeded {
        // The first failure is the cause.
        let _ = self.failure.set(exceeded.into());
        exceeded
    }

    /// The cost so far.
    pub fn cost(&self) -> Cost {
        self.statements.cost()
    }

    /// Keeps `held` alive until the transaction is over and its connection free, even if the
    /// request is cancelled.
    pub fn hold(&self, held: impl Any + Send + Sync) {
        let held: Held = Arc::new(held);
        if let Some(connection) = self.connection().as_ref() {
            connection.hold(Arc::clone(&held));
        }
        // Set once, because a request has one permit.
        let _ = self.held.set(held);
    }

    /// Whether no statement is awaited.
    pub fn is_idle(&self) -> bool {
        self.statements.are_answered()
    }

    /// The number of statements sent to PostgreSQL, including the opening one.
    pub fn statements(&self) -> u32 {
        self.statements.count()
    }

    /// The sum of the answers' times. It exceeds the elapsed time if statements overlapped.
    pub fn database_time(&self) -> Duration {
        self.statements.time()
    }

    /// Commits, and returns after PostgreSQL has confirmed it.
    ///
    /// # Errors
    ///
    /// When nothing was committed, or the outcome is unknown ([`Error::CommitOutcomeUnknown`]).
    pub async fn commit(&self) -> Result<()> {
        let Some(connection) = self.connection().take() else {
            return Err(Error::internal("the transaction has already ended"));
        };
        let link = connection.link()?;
        if link.is_closed() {
            // Nothing was sent, so nothing was committed.
            return Err(Error::Unavailable(Arc::new(sqlx::Error::PoolClosed)));
        }
        self.statements.add(1, Duration::ZERO);
        // COMMIT of a failed transaction answers ROLLBACK without an error; a statement before it
        // fails. The LSN is queried in a separate message, so that its failure does not affect the
        // commit.
        let (committed, marked) = tokio::join!(biased;
            timeout(COMMIT_WAIT, link.execute("SELECT 1; COMMIT")),
            timeout(COMMIT_WAIT, self.commit_lsn.set(link)),
        );
        match committed {
            Ok(Ok(())) => {
                self.committed.store(true, Ordering::Relaxed);
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

    /// The LSN of the commit.
    pub(super) fn commit_lsn(&self) -> &CommitLsn {
        &self.commit_lsn
    }

    /// The LSN that a replica must have replayed to contain the commit; `None` if unknown or not
    /// requested.
    pub fn lsn(&self) -> Option<Lsn> {
        self.commit_lsn.get()
    }

    /// Queries the primary's LSN after a replayed mutation, whose commit is at or before it.
    pub async fn locate(&self) {
        let connection = self.connection().clone();
        if let Some(Ok(link)) = connection.as_ref().map(|connection| connection.link()) {
            // On failure the LSN stays unknown.
            let _ = self.commit_lsn.set(link).await;
        }
    }

    /// Continues on the connection of a new transaction, after this one has committed a part of its
    /// work.
    pub(super) fn resume(&self, fresh: &Self) {
        self.statements.add(fresh.statements(), fresh.database_time());
        let connection = fresh.connection().take();
        if let (Some(connection), Some(held)) = (&connection, self.held.get()) {
            connection.hold(Arc::clone(held));
        }
        *self.connection() = connection;
    }

    /// Whether it has committed, at least a part of its work.
    pub fn has_committed(&self) -> bool {
        self.committed.load(Ordering::Relaxed)
    }

    /// Ends a transaction that only read, without waiting.
    pub fn release(&self) {
        debug_assert!(lock(&self.speculative).is_none(), "the first answer was not awaited");
        let connection = self.connection().take();
        // An abandoned statement may still run. Then the drop rolls back in the background.
        let quiet = self.is_idle() && !self.statements.any_abandoned();
        if let Some(connection) = connection.filter(|_| quiet) {
            connection.set(ROLLBACK_DEFERRED);
        }
    }

    /// Rolls back, and waits until that is done.
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
