//! One transaction on one connection, shared by all parts of a request.
//!
//! The connection returns to the pool after PostgreSQL has confirmed COMMIT or ROLLBACK. A finished
//! read-only transaction returns it at once and defers the rollback: the next transaction's first
//! message, or the pool's reaper within milliseconds, sends it. The order of execution on a
//! connection keeps other statements from coming between.

use std::{
    any::Any,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use sea_orm::Values;
use tokio::time::timeout;

use crate::{
    Answer, Budget, Cost, Error, ErrorKind, Exceeded, Lsn, Parameters, Result, Row, SearchPath,
    first_answer::FirstAnswer,
    lsn::CommitLsn,
    pooled_connection::{CLEAN, Held, LOST, PooledConnection, ROLLBACK_DEFERRED},
    query_stats::QueryStats,
};

/// How long to wait for the answer to COMMIT before its outcome counts as unknown.
const COMMIT_WAIT: Duration = Duration::from_secs(30);

/// A transaction, open until [`commit`](Self::commit), [`release`](Self::release) or its drop.
/// Concurrent statements are sent together, and execute in the order in which they were begun.
pub struct Transaction {
    connection: Mutex<Option<Arc<PooledConnection>>>,
    first_answer: Mutex<Option<FirstAnswer>>,
    /// The failure that caused the others.
    failure: OnceLock<Error>,
    /// The refusal of a statement after another one had failed.
    consequence: OnceLock<Error>,
    pub(crate) statements: QueryStats,
    held: OnceLock<Held>,
    search_path: Option<SearchPath>,
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
    /// A transaction that has begun.
    pub(crate) fn on(
        connection: Arc<PooledConnection>,
        search_path: Option<SearchPath>,
        opening: Duration,
    ) -> Self {
        Self {
            connection: Mutex::new(Some(connection)),
            first_answer: Mutex::default(),
            failure: OnceLock::new(),
            consequence: OnceLock::new(),
            statements: QueryStats::after(opening),
            held: OnceLock::new(),
            search_path,
            commit_lsn: CommitLsn::default(),
            committed: AtomicBool::new(false),
        }
    }

    /// Lets another transaction of the same operation use the rest of this one's budget.
    pub fn share_budget(&self, other: &Self) {
        if let Some(left) = self.statements.left() {
            other.limit(left);
        }
    }

    /// Counts what the other transaction has cost.
    ///
    /// # Errors
    ///
    /// When the two together, or the other alone, have passed the budget; this transaction is lost.
    pub fn charge(&self, other: &Self) -> Result<()> {
        let charged = match other.failure().map(|failure| failure.kind()) {
            Some(ErrorKind::Exceeded(exceeded)) => Err(exceeded),
            _ => self.statements.charge(other.cost()),
        };
        charged.map_err(|exceeded| self.exceeded(exceeded))
    }

    pub(crate) fn set_first_answer(&self, answer: FirstAnswer) {
        *self.first_answer.lock() = Some(answer);
    }

    /// The answer to the first statement of a pipelined transaction, returned once. Await it
    /// concurrently with other statements: unread answers block those behind them.
    pub async fn first_answer(&self) -> Option<Result<Vec<Row>>> {
        let first = self.first_answer.lock().take()?;
        let waiting = Instant::now();
        let answer = first.receive().await;
        self.statements.add(0, waiting.elapsed());
        Some(answer.map(|answer| answer.rows))
    }

    fn connection(&self) -> MutexGuard<'_, Option<Arc<PooledConnection>>> {
        self.connection.lock()
    }

    /// Changes the search path; `None` restores the role's.
    ///
    /// # Errors
    ///
    /// When the statement fails.
    pub async fn go_to(&mut self, search_path: Option<&SearchPath>) -> Result<()> {
        if self.search_path.as_ref() == search_path {
            return Ok(());
        }
        let connection = self.connection().clone().ok_or_else(Error::closed)?;
        self.statements.add(1, Duration::ZERO);
        let link = connection.link()?;
        match search_path {
            Some(_) => link.set_search_path(search_path).await?,
            None => link.execute("SET LOCAL search_path TO DEFAULT").await?,
        }
        self.search_path = search_path.cloned();
        Ok(())
    }

    /// Runs a statement.
    ///
    /// # Errors
    ///
    /// When it fails, or the transaction has failed or exceeded its budget.
    pub async fn query(&self, sql: &str, values: Option<Values>) -> Result<Answer> {
        let parameters = Parameters::of(values)?;
        let connection = self.connection().clone().ok_or_else(Error::closed)?;
        let mut running = self.statements.begin(sql).map_err(|exceeded| self.exceeded(exceeded))?;
        let read = |bytes| self.statements.spend(bytes);
        let search_path = self.search_path.as_ref();
        let outcome = connection.link()?.query(search_path, sql, &parameters, read).await;
        running.answered = true;
        drop(running);
        if let Err(error) = &outcome {
            if error.kind() == ErrorKind::ReadOnly {
                // The connection may lead to a server that is no longer the primary.
                connection.link()?.abandon();
            }
            // 25P02: the statement was refused because an earlier one had failed.
            if error.has_code(&["25P02"]) {
                let _ = self.consequence.set(error.clone());
                if self.failure.get().is_none() {
                    // The cause was received before. Its task records it first, if this one yields.
                    tokio::task::yield_now().await;
                }
            } else {
                let _ = self.failure.set(error.clone());
            }
        }
        outcome
    }

    /// The first failure of a statement, after which the transaction cannot commit.
    pub fn failure(&self) -> Option<Error> {
        self.failure.get().or_else(|| self.consequence.get()).cloned()
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
        self.statements.spend(bytes).map_err(|exceeded| self.exceeded(exceeded))
    }

    pub(crate) fn exceeded(&self, exceeded: Exceeded) -> Error {
        let error = Error::from(exceeded);
        // The first failure is the cause.
        let _ = self.failure.set(error.clone());
        error
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
    /// When nothing was committed, or the outcome is unknown ([`ErrorKind::CommitOutcomeUnknown`]).
    pub async fn commit(&self) -> Result<()> {
        let Some(connection) = self.connection().take() else {
            return Err(Error::statement("the transaction has already ended"));
        };
        let link = connection.link()?;
        if link.is_closed() {
            // Nothing was sent, so nothing was committed.
            return Err(Error::closed());
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
            Ok(Err(error)) if error.kind() == ErrorKind::Connection => {
                connection.set(LOST);
                Err(Error::commit_outcome_unknown(error))
            }
            Ok(Err(error)) => {
                connection.roll_back().await;
                Err(error)
            }
            Err(elapsed) => {
                connection.set(LOST);
                Err(Error::commit_outcome_unknown(elapsed))
            }
        }
    }

    /// Requests the LSN of the commit, for [`lsn`](Self::lsn).
    pub fn want_lsn(&self) {
        self.commit_lsn.want();
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
    pub fn resume(&self, fresh: &Self) {
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
        debug_assert!(self.first_answer.lock().is_none(), "the first answer was not awaited");
        let connection = self.connection().take();
        // An abandoned statement may still run, and a failed one may still send rows. Then the drop
        // rolls back in the background.
        let quiet = self.is_idle() && !self.statements.any_abandoned() && self.failure().is_none();
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

impl AsRef<Self> for Transaction {
    fn as_ref(&self) -> &Self {
        self
    }
}
