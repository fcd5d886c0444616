//! A connection to PostgreSQL. It executes statements in the order in which they were begun. The
//! connection's task, or the first statement of a transaction, detects that it is dead.

use std::{
    borrow::Cow,
    future::poll_fn,
    num::NonZeroUsize,
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, Ordering},
    task::Poll,
    time::Duration,
};

use futures_util::{FutureExt, TryStreamExt};
use lru::LruCache;
use parking_lot::Mutex;
use tokio_postgres::{Client, RowStream, Statement, types::Type};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    Error, Exceeded, Parameters, PoolOptions, Result, Row, SearchPath,
    client::{Task, open},
    error::whole,
    tls::Connector,
};

/// A connection. It executes statements in the order in which they were begun, and sends each
/// without waiting for the answers of earlier ones.
pub(crate) struct Connection {
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
    /// Its drop closes the socket. PostgreSQL then ends a running statement, because it checks its
    /// client (`client_connection_check_interval`).
    _task: Task,
    /// The TLS setup of this connection, which cancelling a statement needs again.
    tls: MakeRustlsConnect,
}

impl Connection {
    pub(crate) async fn open(options: &PoolOptions) -> Result<Self> {
        // Read each time, because certificate files may have been renewed.
        let connector = Connector::new(&options.connect)?;
        let (client, task) = open(&connector, |_| ()).await?;
        let capacity = NonZeroUsize::new(options.statement_cache);
        Ok(Self {
            client,
            statements: capacity.map(|capacity| Mutex::new(LruCache::new(capacity))),
            sending: tokio::sync::Mutex::default(),
            rollback_deferred: AtomicBool::new(false),
            preparing: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            answer_timeout: options.answer_timeout,
            _task: task,
            tls: connector.tls,
        })
    }

    /// Runs a statement with parameters. Table names without a schema resolve in `search_path`, if
    /// there is one. Calls `read` with the size of each row as it arrives; its error stops the
    /// reading.
    pub(crate) async fn query(
        &self,
        search_path: Option<&SearchPath>,
        sql: &str,
        parameters: &Parameters,
        read: impl Fn(usize) -> Result<(), Exceeded>,
    ) -> Result<Answer> {
        if !is_data_access(sql) {
            // It may prepare, replace or drop something that later requests would use.
            self.abandon();
        }
        let answer = pin!(self.run(search_path, sql, parameters, read));
        answered(self.answer_timeout, answer).await
    }

    async fn run(
        &self,
        search_path: Option<&SearchPath>,
        sql: &str,
        parameters: &Parameters,
        read: impl Fn(usize) -> Result<(), Exceeded>,
    ) -> Result<Answer> {
        let Some(statements) = &self.statements else {
            let typed = parameters.values.iter().zip(parameters.types.iter().cloned());
            let turn = self.sending.lock().await;
            // Boxed: large, and used only behind some connection poolers.
            let mut answer = Box::pin(async {
                collected(self.client.query_typed_raw(sql, typed).await?, read).await
            });
            return sent(turn, answer.as_mut()).await;
        };
        let turn = self.sending.lock().await;
        let statement = self.prepared(statements, search_path, sql, &parameters.types).await?;
        let answer = pin!(async {
            collected(self.client.query_raw(&statement, &parameters.values).await?, read).await
        });
        sent(turn, answer).await.inspect_err(|error| {
            // A schema change invalidated the plan, so later statements are prepared again.
            if error.is_outdated() {
                statements.lock().clear();
            }
        })
    }

    /// Runs constant statements of this module without parameters. The simple protocol accepts
    /// several statements at once, so no text from an area may come here.
    pub(crate) async fn execute(&self, sql: &str) -> Result<()> {
        let answer = pin!(async {
            let turn = self.sending.lock().await;
            sent(turn, pin!(self.client.batch_execute(sql))).await.map_err(Error::from)
        });
        answered(self.answer_timeout, answer).await
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Whether a statement holds the turn to send.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending.try_lock().is_err()
    }

    /// Whether the connection may return to the pool.
    pub(crate) fn is_reusable(&self) -> bool {
        !self.preparing.load(Ordering::Relaxed) && !self.abandoned.load(Ordering::Relaxed)
    }

    /// Keeps the connection from returning to the pool. A new one may reach another server.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Defers the rollback of a transaction that only read to the next user or the reaper.
    pub(crate) fn defer_rollback(&self) {
        self.rollback_deferred.store(true, Ordering::Relaxed);
    }

    /// Whether a transaction is still open here. The caller must roll it back.
    pub(crate) fn take_deferred_rollback(&self) -> bool {
        self.rollback_deferred.swap(false, Ordering::Relaxed)
    }

    /// Sets the search path of the transaction, if it has one.
    pub(crate) async fn set_search_path(&self, search_path: Option<&SearchPath>) -> Result<()> {
        match search_path {
            // Boxed: large, and every request would carry it.
            Some(path) => Box::pin(async { self.execute(&path.statement()).await }).await,
            None => Ok(()),
        }
    }

    /// Asks PostgreSQL, over a separate connection, to cancel the running statement. The request
    /// may arrive late, so this connection must run nothing else afterwards.
    pub(crate) async fn cancel(&self) {
        // Boxed: large, and rarely needed.
        let cancelled = Box::pin(self.client.cancel_token().cancel_query(self.tls.clone())).await;
        if let Err(error) = cancelled {
            tracing::warn!(error = whole(&error), "could not cancel a statement");
        }
    }

    /// Sends a deferred rollback without waiting for it; later statements execute after it.
    pub(crate) fn send_deferred_rollback(&self) {
        if self.take_deferred_rollback() {
            // The first poll sends the statement.
            let _ = self.client.batch_execute("ROLLBACK").now_or_never();
        }
    }

    async fn prepared(
        &self,
        statements: &Mutex<LruCache<String, Statement>>,
        search_path: Option<&SearchPath>,
        sql: &str,
        types: &[Type],
    ) -> Result<Statement> {
        // The same text refers to other tables under another search path. PostgreSQL would plan a
        // shared statement again at each change of the path.
        let name = match search_path {
            Some(search_path) => Cow::from(format!("{} {sql}", search_path.as_str())),
            None => Cow::from(sql),
        };
        let known = statements.lock().get(name.as_ref()).cloned();
        if let Some(statement) = known.filter(|statement| statement.params() == types) {
            return Ok(statement);
        }
        self.preparing.store(true, Ordering::Relaxed);
        let statement = Box::pin(self.client.prepare_typed(sql, types)).await;
        self.preparing.store(false, Ordering::Relaxed);
        let statement = statement?;
        statements.lock().put(name.into_owned(), statement.clone());
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
#[derive(Debug)]
pub struct Answer {
    /// The rows that were read.
    pub rows: Vec<Row>,
    /// The number of rows that the statement returned or changed.
    pub affected: u64,
}

/// No limit, for the server's own statements, whose answers are small.
#[expect(clippy::unnecessary_wraps, reason = "it takes the place of a budget check")]
pub(crate) fn unbounded(_: usize) -> Result<(), Exceeded> {
    Ok(())
}

async fn collected(
    stream: RowStream,
    read: impl Fn(usize) -> Result<(), Exceeded>,
) -> Result<Answer> {
    let mut stream = pin!(stream);
    let mut rows = Vec::new();
    while let Some(row) = stream.as_mut().try_next().await? {
        // The connection's task discards the rows that are not read.
        read(row.raw_size_bytes())?;
        rows.push(Row(row));
    }
    Ok(Answer { rows, affected: stream.rows_affected().unwrap_or_default() })
}

/// Passes the turn on once the statement is sent, and waits for the answer. Takes a pinned future:
/// an async function that is passed a future has room for it twice.
async fn sent<T>(
    turn: tokio::sync::MutexGuard<'_, ()>,
    mut answer: Pin<&mut impl Future<Output = T>>,
) -> T {
    // The first poll sends the statement.
    let early = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
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
    answer: Pin<&mut impl Future<Output = Result<T>>>,
) -> Result<T> {
    if answer_timeout == Duration::MAX {
        return answer.await;
    }
    let timed_out = |_| Error::connection("the server does not respond");
    tokio::time::timeout(answer_timeout, answer).await.map_err(timed_out)?
}
