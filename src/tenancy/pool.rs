//! The pool of a database. It asks nothing of a connection that comes back: what is still open on
//! it, its next user ends first (`transaction.rs`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool::managed::{
    self, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult, Timeouts,
};
use sqlx::postgres::PgConnectOptions;
use tokio::runtime::Handle;

use super::{connect::Connector, connection::Connection};
use crate::{
    error::{Error, Result},
    metrics::PoolState,
};

/// How to reach a database, and with how many connections.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// Address, login and session options.
    pub connect: PgConnectOptions,
    /// The same database in the role of background work; `None`: derived from `connect`.
    pub system: Option<PgConnectOptions>,
    /// Where to listen for changes, if a pooler stands between; it must keep a connection for as
    /// long as it is held.
    pub listen: Option<PgConnectOptions>,
    /// A standby for queries that need not be the freshest.
    pub replica: Option<PgConnectOptions>,
    /// Databases of organizations' own, by name.
    pub dedicated: Vec<(String, PgConnectOptions)>,
    /// The size of the pool; of each pool, where there are several databases.
    pub max_connections: usize,
    /// How long to wait for a free connection, and for a new one.
    pub acquire_timeout: Duration,
    /// Prepared statements that a connection keeps; with none it prepares none by name.
    pub statement_cache: usize,
}

/// How long work without a person waits for an answer: longer than PostgreSQL lets a statement run
/// (`statement_timeout` of the role).
pub(super) const PATIENCE: Duration = Duration::from_secs(12);

/// A connection on loan; dropping it gives it back.
pub(super) type PoolObject = Object<Manager>;

/// Makes connections.
pub(super) struct Manager {
    options: PgConnectOptions,
    statement_cache: usize,
    patience: Duration,
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Connection, sqlx::Error> {
        // Certificates are read each time: they may have been renewed.
        let connector = Connector::new(&self.options)
            .map_err(|error| sqlx::Error::Configuration(error.cause().into()))?;
        // Large, and rare.
        Box::pin(Connection::open(&connector, self.statement_cache, self.patience)).await
    }

    async fn recycle(&self, link: &mut Connection, _: &Metrics) -> RecycleResult<sqlx::Error> {
        if link.is_closed() { Err(RecycleError::message("closed")) } else { Ok(()) }
    }
}

/// How long a transaction that only read may stay open after its end, where nobody else needs the
/// connection: in its place the next one begins with a message less.
const SWEEP: Duration = Duration::from_millis(5);

/// So many requests wait for each connection; more than that would only wait in vain, and for long.
const WAITING: usize = 32;

/// The pool of one database; cheap to clone.
#[derive(Clone)]
pub(super) struct ConnectionPool {
    pool: Pool<Manager>,
    /// A sweep is on its way.
    sweeping: Arc<AtomicBool>,
}

impl std::fmt::Debug for ConnectionPool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ConnectionPool").finish_non_exhaustive()
    }
}

impl ConnectionPool {
    /// Whoever works on these looks after time: answers may take as long as they like.
    pub(super) fn new(options: &DatabaseOptions) -> Result<Self> {
        Self::with(options, Duration::MAX)
    }

    /// For work that nobody would miss if it waited for ever: a connection that is silent for so
    /// long is taken for dead.
    pub(super) fn with(options: &DatabaseOptions, patience: Duration) -> Result<Self> {
        let timeout = Some(options.acquire_timeout);
        // What is wrong with certificates is told at once.
        Connector::new(&options.connect)?;
        let (connect, statement_cache) = (options.connect.clone(), options.statement_cache);
        let lender = Manager { options: connect, statement_cache, patience };
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
    pub(super) async fn lease(&self) -> Result<PoolObject> {
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
    pub(super) fn state(&self, name: &str) -> PoolState {
        let status = self.pool.status();
        let busy = status.size.saturating_sub(status.available);
        PoolState { name: name.to_owned(), busy, idle: status.available, waiting: status.waiting }
    }

    /// Closes the connections that nobody has used for so long.
    pub(super) fn close_idle(&self, idle: Duration) {
        self.pool.retain(|_, metrics| metrics.last_used() < idle);
    }

    /// Closes every idle connection: one turned out dead, so the others are suspect.
    pub(super) fn discard_idle(&self) {
        self.pool.retain(|_, _| false);
    }

    /// Takes back a connection whose transaction only read and has ended, without ending it yet.
    pub(super) fn forsake(&self, lease: PoolObject, runtime: &Handle) {
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

/// The wait for the answer to the beginning of a transaction. Whoever gives that up has probably
/// met a connection whose other end is gone without a word, and the idle ones lead there as well.
pub(super) struct StallGuard<'connections> {
    connections: &'connections ConnectionPool,
    since: Instant,
    pub(super) answered: bool,
}

impl<'connections> StallGuard<'connections> {
    pub(super) fn begin(connections: &'connections ConnectionPool) -> Self {
        Self { connections, since: Instant::now(), answered: false }
    }
}

impl Drop for StallGuard<'_> {
    fn drop(&mut self) {
        if !self.answered && self.since.elapsed() > SUSPICIOUS {
            self.connections.discard_idle();
        }
    }
}
