//! A connection, and what it does with a statement. A dead one is noticed by its own task, or by
//! the first statement of a transaction.

#![expect(clippy::disallowed_types, reason = "this is where connections are made")]

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
    driver::{Parameters, failed, not_connected, whole},
    placement::Schema,
};
use crate::error::Exceeded;

/// A connection. Statements are executed in the order in which they were begun, and sent without
/// waiting for each other.
pub(super) struct Connection {
    client: Client,
    statements: Option<Mutex<LruCache<String, Statement>>>,
    /// Whose turn it is to send: one that must be prepared first keeps its place.
    sending: tokio::sync::Mutex<()>,
    /// A transaction that only read, and that nobody needs any more, is still open.
    forsaken: AtomicBool,
    /// A statement is being prepared: whoever gives that up leaves one behind that nobody knows.
    preparing: AtomicBool,
    /// Nobody wants it any more, after this transaction.
    abandoned: AtomicBool,
    /// An answer that takes longer will never come.
    patience: Duration,
    /// The task that reads and writes.
    task: AbortHandle,
    /// As the connection was made, so that a statement on it can be cancelled.
    tls: MakeRustlsConnect,
}

impl Connection {
    pub(super) async fn open(
        connector: &Connector,
        statement_cache: usize,
        patience: Duration,
    ) -> Result<Self, sqlx::Error> {
        let (client, connection) =
            connector.config.connect(connector.tls.clone()).await.map_err(not_connected)?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(error = whole(&error), "a connection to the database broke");
            }
        });
        let capacity = NonZeroUsize::new(statement_cache);
        Ok(Self {
            client,
            statements: capacity.map(|capacity| Mutex::new(LruCache::new(capacity))),
            sending: tokio::sync::Mutex::default(),
            forsaken: AtomicBool::new(false),
            preparing: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            patience,
            task: task.abort_handle(),
            tls: connector.tls.clone(),
        })
    }

    /// Runs a statement with parameters; tables without a schema are those of `schema`, if there is
    /// one. `read` is called with the size of each row as it arrives, and may end the reading.
    pub(super) async fn query(
        &self,
        schema: Option<&Schema>,
        sql: &str,
        parameters: &Parameters,
        read: impl Fn(usize) -> Result<(), Exceeded>,
    ) -> Result<Answer, sqlx::Error> {
        answered(self.patience, self.ask(schema, sql, parameters, read)).await
    }

    async fn ask(
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
            // A change of the schema has made the plan unusable: the next one is made anew.
            if is_outdated(error) {
                lock(statements).clear();
            }
        })
    }

    /// Runs statements of our own, without parameters.
    pub(super) async fn execute(&self, sql: &str) -> Result<(), sqlx::Error> {
        answered(self.patience, async {
            let turn = self.sending.lock().await;
            sent(turn, self.client.batch_execute(sql)).await.map_err(failed)
        })
        .await
    }

    /// Nobody can use it any more.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Somebody has the turn to send.
    pub(super) fn is_sending(&self) -> bool {
        self.sending.try_lock().is_err()
    }

    /// It may go back to the pool.
    pub(super) fn is_whole(&self) -> bool {
        !self.preparing.load(Ordering::Relaxed) && !self.abandoned.load(Ordering::Relaxed)
    }

    /// It never goes back to the pool: the next one may lead to a better place.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Leaves a transaction that only read to whoever comes next, or to the sweep.
    pub(super) fn forsake(&self) {
        self.forsaken.store(true, Ordering::Relaxed);
    }

    /// Whether a transaction is still open here; whoever asks must end it.
    pub(super) fn take_forsaken(&self) -> bool {
        self.forsaken.swap(false, Ordering::Relaxed)
    }

    /// Asks PostgreSQL, over a connection of its own, to give up the statement that runs here now.
    /// The request may arrive late, so this connection must not run anything else afterwards.
    pub(super) async fn cancel(&self) {
        // Large, and rare.
        let cancelled = Box::pin(self.client.cancel_token().cancel_query(self.tls.clone())).await;
        if let Err(error) = cancelled {
            tracing::warn!(error = whole(&error), "a statement could not be cancelled");
        }
    }

    /// Ends what was left open, and waits for nothing: whatever comes next is executed after it.
    pub(super) fn sweep(&self) {
        if self.take_forsaken() {
            // The first poll sends it.
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
        // The same text means other tables under another search path, and PostgreSQL would plan it
        // anew at each change.
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

/// What PostgreSQL answered to a statement.
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    /// How many rows the statement returned or changed.
    pub(super) affected: u64,
}

/// For statements of the server itself, whose answers are small.
#[expect(clippy::unnecessary_wraps, reason = "it stands for a budget that is never passed")]
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
        // What is not read is thrown away by the connection's task.
        read(row.raw_size_bytes())?;
        rows.push(row);
    }
    Ok(Answer { rows, affected: stream.rows_affected().unwrap_or_default() })
}

/// A prepared statement whose result has changed, or that PostgreSQL does not know any more.
pub(super) fn is_outdated(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["0A000", "26000"].contains(&code.as_ref()))
}

/// Gives up the turn when the statement was sent, and waits for the answer.
async fn sent<T>(turn: tokio::sync::MutexGuard<'_, ()>, answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    // The first poll sends it.
    let early = poll!(answer.as_mut());
    drop(turn);
    match early {
        Poll::Ready(answer) => answer,
        Poll::Pending => answer.await,
    }
}

/// Whoever has said nothing for so long is gone, whatever the network says of the connection.
async fn answered<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    if patience == Duration::MAX {
        return answer.await;
    }
    let silence = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(patience, answer).await.map_err(silence)?
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Connection {
    /// Closes the socket, which ends what still runs: PostgreSQL looks after its client
    /// (`client_connection_check_interval`).
    fn drop(&mut self) {
        self.task.abort();
    }
}
