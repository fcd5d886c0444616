//! One transaction on one connection, shared by everything that a request does.
//!
//! The connection goes back to the pool after a COMMIT or ROLLBACK that PostgreSQL has confirmed, or not at all.
#![expect(clippy::disallowed_types, reason = "this is where connections are used")]

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement, Values,
    sea_query,
};
use sea_query_sqlx::SqlxValues;
use sqlx::{
    AssertSqlSafe, Executor, PgConnection, Postgres, postgres::PgQueryResult, query::Query,
};
use tokio::{runtime::Handle, sync::Mutex, time::timeout};

use super::connection::Lease;
use crate::error::{Error, Result, Trouble};

/// An abandoned transaction is rolled back within this time, or its connection is closed.
const ROLLBACK_WAIT: Duration = Duration::from_secs(3);

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
    pub(super) fn begin(self) -> &'static str {
        match self {
            Self::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            Self::Write => "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE",
        }
    }
}

/// What is kept of the first error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
struct Failure {
    trouble: Trouble,
    message: String,
}

/// A transaction; open until [`commit`](Self::commit), [`release`](Self::release) or its drop.
pub struct Transaction {
    connection: Mutex<Option<Borrowed>>,
    failure: OnceLock<Failure>,
    statements: AtomicU32,
    /// Statements that run or wait for their turn.
    waiting: AtomicU32,
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
    /// Owns the connection from now on, so that whatever is cancelled leaves no open transaction behind.
    pub(super) fn new(lease: Lease) -> Self {
        Self {
            connection: Mutex::new(Some(Borrowed::new(lease))),
            failure: OnceLock::new(),
            statements: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
        }
    }

    /// Runs `work` on the connection when its turn comes.
    pub(super) async fn run<T>(
        &self,
        work: impl for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let _waiting = Waiting::enter(&self.waiting);
        let mut guard = self.connection.lock().await;
        let connection = guard.as_mut().ok_or(sqlx::Error::PoolClosed)?.get()?;
        self.statements.fetch_add(1, Ordering::Relaxed);
        let outcome = work(connection).await;
        if let Err(error) = &outcome {
            let failure = Failure { trouble: Trouble::of(error), message: error.to_string() };
            // The first failure is the cause, the others its consequences.
            let _ = self.failure.set(failure);
        }
        outcome
    }

    /// The first statement that failed, whatever became of its error since: the transaction is lost.
    pub fn failure(&self) -> Option<Error> {
        self.failure.get().map(|failure| match failure.trouble {
            Trouble::Connection | Trouble::Conflict => {
                Error::Unavailable(Arc::new(failure.clone()))
            }
            Trouble::Timeout => Error::Timeout,
            Trouble::Statement => Error::Internal(Arc::new(failure.clone())),
        })
    }

    /// Nothing runs, and nothing waits for its turn.
    pub fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// How many messages were sent to PostgreSQL so far, the opening one included.
    pub fn statements(&self) -> u32 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Commits, and returns only when PostgreSQL has said so.
    ///
    /// # Errors
    ///
    /// When nothing was committed, or ([`Error::CommitOutcomeUnknown`]) nobody can tell.
    pub async fn commit(&self) -> Result<()> {
        let Some(mut connection) = self.connection.lock().await.take() else {
            return Err(Error::internal("the transaction is finished already"));
        };
        self.statements.fetch_add(1, Ordering::Relaxed);
        // COMMIT of a failed transaction answers ROLLBACK without an error; a statement before it does not.
        match timeout(COMMIT_WAIT, connection.execute("SELECT 1; COMMIT")).await {
            Ok(Ok(_)) => {
                connection.give_back();
                Ok(())
            }
            Ok(Err(error)) if Trouble::of(&error) == Trouble::Connection => {
                connection.close();
                Err(Error::CommitOutcomeUnknown(Arc::new(error)))
            }
            Ok(Err(error)) => {
                connection.roll_back().await;
                Err(error.into())
            }
            Err(elapsed) => {
                connection.close();
                Err(Error::CommitOutcomeUnknown(Arc::new(elapsed)))
            }
        }
    }

    /// Goes on with another transaction, which was just begun, after this one was finished.
    pub(super) async fn replace(&self, fresh: Self) {
        self.statements.fetch_add(fresh.statements(), Ordering::Relaxed);
        *self.connection.lock().await = fresh.connection.into_inner();
    }

    /// Ends the transaction without keeping anything; the rollback happens behind the caller's back.
    pub async fn release(&self) {
        drop(self.connection.lock().await.take());
    }

    /// Ends the transaction without keeping anything, and waits until that is done.
    pub async fn roll_back(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            connection.roll_back().await;
        }
    }
}

/// Counts a statement for as long as somebody waits for it.
struct Waiting<'count>(&'count AtomicU32);

impl<'count> Waiting<'count> {
    fn enter(count: &'count AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that is clean when it goes back to its pool: dropped in whatever state, it is rolled back first, behind
/// everybody's back, or closed.
pub(super) struct Borrowed(Option<Lease>);

impl Borrowed {
    pub(super) fn new(lease: Lease) -> Self {
        Self(Some(lease))
    }

    /// Runs one message of the simple protocol.
    async fn execute(&mut self, sql: &'static str) -> Result<PgQueryResult, sqlx::Error> {
        self.get()?.execute(sql).await
    }

    pub(super) fn get(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.0.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// It is known to be clean.
    pub(super) fn give_back(mut self) {
        drop(self.0.take());
    }

    /// Closing the socket ends what still runs: PostgreSQL looks after its client (`client_connection_check_interval`).
    fn close(mut self) {
        if let Some(lease) = self.0.take() {
            drop(Lease::take(lease));
        }
    }

    /// A statement that was abandoned may still be running; the rollback waits for it, but not for long.
    async fn roll_back(mut self) {
        match timeout(ROLLBACK_WAIT, self.execute("ROLLBACK")).await {
            Ok(Ok(_)) => self.give_back(),
            _ => self.close(),
        }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let Some(lease) = self.0.take() else {
            return;
        };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(rolled_back_or_closed(lease))),
            Err(_) => drop(Lease::take(lease)),
        }
    }
}

/// Not through [`Borrowed`], whose drop would begin anew when the runtime ends.
async fn rolled_back_or_closed(mut lease: Lease) {
    match timeout(ROLLBACK_WAIT, lease.execute("ROLLBACK")).await {
        Ok(Ok(_)) => drop(lease),
        _ => drop(Lease::take(lease)),
    }
}

/// Binds the values as sea-orm's own driver does.
fn bound(statement: &Statement) -> Query<'_, Postgres, SqlxValues> {
    let values = statement.values.clone().unwrap_or_else(|| Values(Vec::<sea_query::Value>::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), SqlxValues(values))
}

fn executing(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(error.into()))
}

fn querying(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

#[sea_orm::prelude::async_trait::async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let outcome = self
            .run(|connection| Box::pin(async move { bound(&statement).execute(connection).await }))
            .await;
        outcome.map(Into::into).map_err(executing)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let sql = AssertSqlSafe(sql.to_owned());
        let outcome = self.run(|connection| Box::pin(connection.execute(sql))).await;
        outcome.map(Into::into).map_err(executing)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let outcome = self
            .run(|connection| {
                Box::pin(async move { bound(&statement).fetch_optional(connection).await })
            })
            .await;
        outcome.map(|row| row.map(Into::into)).map_err(querying)
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let outcome = self
            .run(|connection| {
                Box::pin(async move { bound(&statement).fetch_all(connection).await })
            })
            .await;
        outcome.map(|rows| rows.into_iter().map(Into::into).collect()).map_err(querying)
    }
}
