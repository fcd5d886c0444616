//! A connection to PostgreSQL. It executes statements in the order in which they were begun. The
//! connection's task, or the first statement of a transaction, detects that it is dead.

#![expect(clippy::disallowed_types, reason = "this module creates the connections")]

use std::{
    borrow::Cow,
    num::NonZeroUsize,
    pin::pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::{FutureExt, TryStreamExt, poll};
use lru::LruCache;
use tokio::task::AbortHandle;
use tokio_postgres::{Client, Row, RowStream, Statement, types::Type};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    connect::Connector,
    placement::Schema,
    sea_orm_adapter::{Parameters, failed, not_connected, whole},
};
use crate::error::Exceeded;

/// A connection. It executes statements in the order in which they were begun, and sends each
/// without waiting for the answers of earlier ones.
pub(super) struct Connection {
    client: Client,
    statements: Option<Mutex<LruCache<String, Statement>>>,
    /// The turn to send. A statement that must be prepared first keeps its place in the order.
    sending: tokio::sync::Mutex<()>,
    /// A transaction that only read is still open; its rollback is deferred.
    rollback_deferred: AtomicBool,
    /// A statement is being prepared. If that is cancelled, the connection keeps a statement that
    /// is in no cache, so it is not reusable.
    preparing: AtomicBool,
    /// Close the connection after the present transaction.
    abandoned: AtomicBool,
    /// The time after which an answer is no longer expected.
    answer_timeout: Duration,
    /// The task that reads from and writes to the socket.
    task: AbortHandle,
    /// The TLS setup of this connection, which cancelling a statement needs again.
    tls: MakeRustlsConnect,
}

impl Connection {
    pub(super) async fn open(
        connector: &Connector,
        statement_cache: usize,
        answer_timeout: Duration,
    ) -> Result<Self, sqlx::Error> {
        let (client, connection) =
            connector.config.connect(connector.tls.clone()).await.map_err(not_connected)?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(error = whole(&error), "a database connection broke");
            }
        });
        let capacity = NonZeroUsize::new(statement_cache);
        Ok(Self {
            client,
            statements: capacity.map(|capacity| Mutex::new(LruCache::new(capacity))),
            sending: tokio::sync::Mutex::default(),
            rollback_deferred: AtomicBool::new(false),
            preparing: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            answer_timeout,
            task: task.abort_handle(),
            tls: connector.tls.clone(),
        })
    }

    /// Runs a statement with parameters. Table names without a schema resolve to `schema`, if there
    /// is one. Calls `read` with the size of each row as it arrives; its error stops the reading.
    pub(super) async fn query(
        &self,
        schema: Option<&Schema>,
        sql: &str,
        parameters: &Parameters,
        read: impl Fn(usize) -> Result<(), Exceeded>,
    ) -> Result<Answer, sqlx::Error> {
        if !is_data_access(sql) {
            // It may prepare, replace or drop something that later requests would use.
            self.abandon();
        }
        answered(self.answer_timeout, self.run(schema, sql, parameters, read)).await
    }

    async fn run(
        &self,
        schema: Option<&Schema>,
        sql: &str,
        parameters: &Parameters,
        read: impl Fn(usize) -> Result<(), Exceeded>,
    ) -> Result<Answer, sqlx::Error> {
        let Some(statements) = &self.statements else {
            let typed = parameters.values.iter().zip(parameters.types.iter().cloned());
            let turn = self.sending.lock().await;
            return sent(turn, collected(self.client.query_typed_raw(sql, typed), read)).await;
        };
        let turn = self.sending.lock().await;
        let statement = self.prepared(statements, schema, sql, &parameters.types).await?;
        let answer = collected(self.client.query_raw(&statement, &parameters.values), read);
        sent(turn, answer).await.inspect_err(|error| {
            // A schema change invalidated the plan, so later statements are prepared again.
            if is_outdated(error) {
                lock(statements).clear();
            }
        })
    }

    /// Runs constant statements of this module without parameters. The simple protocol accepts
    /// several statements at once, so no text from an area may come here.
    pub(super) async fn execute(&self, sql: &str) -> Result<(), sqlx::Error> {
        answered(self.answer_timeout, async {
            let turn = self.sending.lock().await;
            sent(turn, self.client.batch_execute(sql)).await.map_err(failed)
        })
        .await
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Whether a statement holds the turn to send.
    pub(super) fn is_sending(&self) -> bool {
        self.sending.try_lock().is_err()
    }

    /// Whether the connection may return to the pool.
    pub(super) fn is_reusable(&self) -> bool {
        !self.preparing.load(Ordering::Relaxed) && !self.abandoned.load(Ordering::Relaxed)
    }

    /// Keeps the connection from returning to the pool. A new one may reach another server.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Defers the rollback of a transaction that only read to the next user or the reaper.
    pub(super) fn defer_rollback(&self) {
        self.rollback_deferred.store(true, Ordering::Relaxed);
    }

    /// Whether a transaction is still open here. The caller must roll it back.
    pub(super) fn take_deferred_rollback(&self) -> bool {
        self.rollback_deferred.swap(false, Ordering::Relaxed)
    }

    /// Asks PostgreSQL, over a separate connection, to cancel the running statement. The request
    /// may arrive late, so this connection must run nothing else afterwards.
    pub(super) async fn cancel(&self) {
        // Boxed: large, and rarely needed.
        let cancelled = Box::pin(self.client.cancel_token().cancel_query(self.tls.clone())).await;
        if let Err(error) = cancelled {
            tracing::warn!(error = whole(&error), "could not cancel a statement");
        }
    }

    /// Sends a deferred rollback without waiting for it; later statements execute after it.
    pub(super) fn send_deferred_rollback(&self) {
        if self.take_deferred_rollback() {
            // The first poll sends the statement.
            let _ = self.client.batch_execute("ROLLBACK").now_or_never();
        }
    }

    async fn prepared(
        &self,
        statements: &Mutex<LruCache<String, Statement>>,
        schema: Option<&Schema>,
        sql: &str,
        types: &[Type],
    ) -> Result<Statement, sqlx::Error> {
        // The same text refers to other tables under another search path. PostgreSQL would plan a
        // shared statement again at each change of the path.
        let name = match schema {
            Some(schema) => Cow::from(format!("{} {sql}", schema.name())),
            None => Cow::from(sql),
        };
        let known = lock(statements).get(name.as_ref()).cloned();
        if let Some(statement) = known.filter(|statement| statement.params() == types) {
            return Ok(statement);
        }
        self.preparing.store(true, Ordering::Relaxed);
        let statement = Box::pin(self.client.prepare_typed(sql, types)).await;
        self.preparing.store(false, Ordering::Relaxed);
        let statement = statement.map_err(failed)?;
        lock(statements).put(name.into_owned(), statement.clone());
        Ok(statement)
    }
}

/// Reads or changes rows. Other statements can leave something on the connection, such as a
/// prepared statement. The server's own queries begin with neither a comment nor a parenthesis.
fn is_data_access(sql: &str) -> bool {
    const KEYWORDS: [&str; 7] = ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "VALUES", "MERGE"];
    let sql = sql.trim_ascii_start();
    let length = sql.bytes().take_while(u8::is_ascii_alphabetic).count();
    KEYWORDS.iter().any(|keyword| sql[..length].eq_ignore_ascii_case(keyword))
}

/// PostgreSQL's answer to a statement.
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    /// The number of rows that the statement returned or changed.
    pub(super) affected: u64,
}

/// No limit, for the server's own statements, whose answers are small.
#[expect(clippy::unnecessary_wraps, reason = "it takes the place of a budget check")]
pub(super) fn unbounded(_: usize) -> Result<(), Exceeded> {
    Ok(())
}

async fn collected(
    rows: impl Future<Output = Result<RowStream, tokio_postgres::Error>>,
    read: impl Fn(usize) -> Result<(), Exceeded>,
) -> Result<Answer, sqlx::Error> {
    let mut stream = pin!(rows.await.map_err(failed)?);
    let mut rows = Vec::new();
    while let Some(row) = stream.as_mut().try_next().await.map_err(failed)? {
        // The connection's task discards the rows that are not read.
        read(row.raw_size_bytes())?;
        rows.push(row);
    }
    Ok(Answer { rows, affected: stream.rows_affected().unwrap_or_default() })
}

/// Whether a prepared statement's result type has changed, or PostgreSQL no longer has it.
pub(super) fn is_outdated(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["0A000", "26000"].contains(&code.as_ref()))
}

/// Passes the turn on once the statement is sent, and waits for the answer.
async fn sent<T>(turn: tokio::sync::MutexGuard<'_, ()>, answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    // The first poll sends the statement.
    let early = poll!(answer.as_mut());
    drop(turn);
    match early {
        Poll::Ready(answer) => answer,
        Poll::Pending => answer.await,
    }
}

/// Waits for an answer. A server that is silent for too long counts as gone, even if the
/// socket is still open.
async fn answered<T>(
    answer_timeout: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    if answer_timeout == Duration::MAX {
        return answer.await;
    }
    let timed_out = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(answer_timeout, answer).await.map_err(timed_out)?
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Connection {
    /// Closes the socket. PostgreSQL then ends a running statement, because it checks its client
    /// (`client_connection_check_interval`).
    fn drop(&mut self) {
        self.task.abort();
    }
}
