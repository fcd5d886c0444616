//! Connections: the pool that lends them, and what one does with a statement.
//!
//! The pool asks nothing of a connection that comes back: what is still open on it, its next user ends first (`transaction.rs`). A
//! dead one is noticed by its own task, or by the first statement of a transaction.
#![expect(clippy::disallowed_types, reason = "this is where connections are made")]

use std::{
    borrow::Cow,
    num::NonZeroUsize,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use deadpool::managed::{
    self, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult, Timeouts,
};
use futures_util::{FutureExt, TryStreamExt, poll};
use lru::LruCache;
use sqlx::postgres::PgConnectOptions;
use tokio::{runtime::Handle, task::AbortHandle};
use tokio_postgres::{Client, Row, RowStream, Statement, types::Type};

use super::{
    connect::Connector,
    driver::{Parameters, failed, not_connected, whole},
    home::Schema,
};
use crate::{
    error::{Error, Result},
    metrics::PoolState,
};

/// How to reach a database, and with how many connections.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// Address, login and session options.
    pub connect: PgConnectOptions,
    /// Where to listen for changes, if a pooler stands between; it must keep a connection for as long as it is held.
    pub listen: Option<PgConnectOptions>,
    /// A standby for queries that need not be the freshest.
    pub replica: Option<PgConnectOptions>,
    /// The size of the pool.
    pub max_connections: usize,
    /// How long to wait for a free connection, and for a new one.
    pub acquire_timeout: Duration,
    /// Prepared statements that a connection keeps; with none it prepares none by name.
    pub statement_cache: usize,
}

/// A connection on loan; dropping it gives it back.
pub(super) type Lease = Object<Lender>;

/// A connection. Statements are executed in the order in which they were begun, and sent without waiting for each other.
pub(super) struct Link {
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
}

impl Link {
    async fn open(
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
        })
    }

    /// Runs a statement with parameters; tables without a schema are those of `schema`, if there is one.
    pub(super) async fn query(
        &self,
        schema: Option<&Schema>,
        sql: &str,
        parameters: &Parameters,
    ) -> Result<Answer, sqlx::Error> {
        answered(self.patience, self.ask(schema, sql, parameters)).await
    }

    async fn ask(
        &self,
        schema: Option<&Schema>,
        sql: &str,
        parameters: &Parameters,
    ) -> Result<Answer, sqlx::Error> {
        let Some(statements) = &self.statements else {
            let typed = parameters.values.iter().zip(parameters.types.iter().cloned());
            let turn = self.sending.lock().await;
            return sent(turn, collected(self.client.query_typed_raw(sql, typed)))
                .await
                .map_err(failed);
        };
        let turn = self.sending.lock().await;
        let statement = self.prepared(statements, schema, sql, &parameters.types).await?;
        let answer = collected(self.client.query_raw(&statement, &parameters.values));
        sent(turn, answer).await.map_err(|error| {
            // A change of the schema has made the plan unusable: the next one is made anew.
            let error = failed(error);
            if is_outdated(&error) {
                lock(statements).clear();
            }
            error
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

    /// Ends what was left open, and waits for nothing: whatever comes next is executed after it.
    fn sweep(&self) {
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
        // The same text means other tables under another search path, and PostgreSQL would plan it anew at each change.
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

async fn collected(
    rows: impl Future<Output = Result<RowStream, tokio_postgres::Error>>,
) -> Result<Answer, tokio_postgres::Error> {
    let mut stream = pin!(rows.await?);
    let mut rows = Vec::new();
    while let Some(row) = stream.as_mut().try_next().await? {
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

impl Drop for Link {
    /// Closes the socket, which ends what still runs: PostgreSQL looks after its client
    /// (`client_connection_check_interval`).
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Makes connections.
pub(super) struct Lender {
    options: PgConnectOptions,
    statement_cache: usize,
    patience: Duration,
}

impl managed::Manager for Lender {
    type Type = Link;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Link, sqlx::Error> {
        // Certificates are read each time: they may have been renewed.
        let connector = Connector::new(&self.options)
            .map_err(|error| sqlx::Error::Configuration(error.cause().into()))?;
        // Large, and rare.
        Box::pin(Link::open(&connector, self.statement_cache, self.patience)).await
    }

    async fn recycle(&self, link: &mut Link, _: &Metrics) -> RecycleResult<sqlx::Error> {
        if link.is_closed() { Err(RecycleError::message("closed")) } else { Ok(()) }
    }
}

/// How long a transaction that only read may stay open after its end, where nobody else needs the connection: in its place the next
/// one begins with a message less.
const SWEEP: Duration = Duration::from_millis(5);

/// So many requests wait for each connection; more than that would only wait in vain, and for long.
const WAITING: usize = 32;

/// The pool of one database; cheap to clone.
#[derive(Clone)]
pub(super) struct Connections {
    pool: Pool<Lender>,
    /// A sweep is on its way.
    sweeping: Arc<AtomicBool>,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl Connections {
    /// Whoever works on these looks after time: answers may take as long as they like.
    pub(super) fn new(options: &DatabaseOptions) -> Result<Self> {
        Self::with(options, Duration::MAX)
    }

    /// For work that nobody would miss if it waited for ever: a connection that is silent for so long is taken for dead.
    pub(super) fn with(options: &DatabaseOptions, patience: Duration) -> Result<Self> {
        let timeout = Some(options.acquire_timeout);
        // What is wrong with certificates is told at once.
        Connector::new(&options.connect)?;
        let (connect, statement_cache) = (options.connect.clone(), options.statement_cache);
        let lender = Lender { options: connect, statement_cache, patience };
        let pool = Pool::builder(lender)
            .max_size(options.max_connections)
            // The connection that was used last has its plans and its caches warm.
            .queue_mode(QueueMode::Lifo)
            .timeouts(Timeouts { wait: timeout, create: timeout, recycle: None })
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(Error::internal)?;
        Ok(Self { pool, sweeping: Arc::default() })
    }

    /// A free connection, or a place among those who wait for one.
    pub(super) async fn lease(&self) -> Result<Lease> {
        let status = self.pool.status();
        if status.waiting >= status.max_size.saturating_mul(WAITING) {
            return Err(Error::unavailable("too many requests wait for a connection"));
        }
        // Whatever is wrong with a connection that there is not: nothing was done on it.
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => Error::Unavailable(Arc::new(error)),
            error => Error::Unavailable(Arc::new(error)),
        })
    }

    /// The most there may be.
    pub(super) fn most(&self) -> usize {
        self.pool.status().max_size
    }

    /// Whoever wants one now has to wait.
    pub(super) fn are_all_busy(&self) -> bool {
        let status = self.pool.status();
        status.available == 0 && status.size >= status.max_size
    }

    /// How many there are, for operators.
    pub(super) fn state(&self, name: &'static str) -> PoolState {
        let status = self.pool.status();
        let busy = status.size.saturating_sub(status.available);
        PoolState { name, busy, idle: status.available, waiting: status.waiting }
    }

    /// Closes every idle connection: one turned out dead, so the others are suspect.
    pub(super) fn discard_idle(&self) {
        self.pool.retain(|_, _| false);
    }

    /// Takes back a connection whose transaction only read and has ended, without ending it yet.
    pub(super) fn forsake(&self, lease: Lease, runtime: &Handle) {
        lease.forsake();
        drop(lease);
        if self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let connections = self.clone();
        runtime.spawn(async move {
            tokio::time::sleep(SWEEP).await;
            // Before looking: whoever comes back now needs another sweep.
            connections.sweeping.store(false, Ordering::Release);
            connections.pool.retain(|link, _| {
                link.sweep();
                true
            });
        });
    }
}

/// Beginning a transaction takes milliseconds.
const SUSPICIOUS: Duration = Duration::from_millis(500);

/// The wait for the answer to the beginning of a transaction. Whoever gives that up has probably met a connection whose other end
/// is gone without a word, and the idle ones lead there as well.
pub(super) struct Silence<'connections> {
    connections: &'connections Connections,
    since: Instant,
    pub(super) answered: bool,
}

impl<'connections> Silence<'connections> {
    pub(super) fn begin(connections: &'connections Connections) -> Self {
        Self { connections, since: Instant::now(), answered: false }
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        if !self.answered && self.since.elapsed() > SUSPICIOUS {
            self.connections.discard_idle();
        }
    }
}
