//! The connection pool of a database. It does not check returned connections: the next user of a
//! connection first ends a transaction that is still open on it.

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

/// The address of a database, and the size of its pools.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// Address, login and session options.
    pub connect: PgConnectOptions,
    /// The login of background work; `None` derives it from `connect`.
    pub system: Option<PgConnectOptions>,
    /// The address for LISTEN, needed behind a transaction pooler: each client must keep its own
    /// server connection there.
    pub listen: Option<PgConnectOptions>,
    /// A standby for queries that accept stale data.
    pub replica: Option<PgConnectOptions>,
    /// The dedicated databases, by name.
    pub dedicated: Vec<(String, PgConnectOptions)>,
    /// The maximum size of each request pool.
    pub max_connections: usize,
    /// How long to wait for a free connection, and for opening one.
    pub acquire_timeout: Duration,
    /// The number of prepared statements that a connection keeps; 0 disables named statements.
    pub statement_cache: usize,
}

/// How long background work waits for an answer: longer than the role's `statement_timeout`.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);

/// A checked-out connection; its drop returns it.
pub(super) type PoolObject = Object<Manager>;

/// Opens the pool's connections.
pub(super) struct Manager {
    options: PgConnectOptions,
    statement_cache: usize,
    answer_timeout: Duration,
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Connection, sqlx::Error> {
        // Read each time, because certificate files may have been renewed.
        let connector = Connector::new(&self.options)
            .map_err(|error| sqlx::Error::Configuration(error.cause().into()))?;
        // Boxed: large, and rarely needed.
        Box::pin(Connection::open(&connector, self.statement_cache, self.answer_timeout)).await
    }

    async fn recycle(&self, link: &mut Connection, _: &Metrics) -> RecycleResult<sqlx::Error> {
        if link.is_closed() { Err(RecycleError::message("closed")) } else { Ok(()) }
    }
}

/// How long a finished read transaction may stay open on an idle connection. Usually the next
/// transaction ends it sooner, and saves a message.
const REAP_AFTER: Duration = Duration::from_millis(5);

/// The maximum number of waiting requests per connection. More would only time out.
const WAITING: usize = 32;

/// The pool of one database; cheap to clone.
#[derive(Clone)]
pub(super) struct ConnectionPool {
    pool: Pool<Manager>,
    /// Whether a reaper task is scheduled.
    reaper_scheduled: Arc<AtomicBool>,
}

impl std::fmt::Debug for ConnectionPool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ConnectionPool").finish_non_exhaustive()
    }
}

impl ConnectionPool {
    /// A pool without a limit for answers; its users have deadlines.
    pub(super) fn new(options: &DatabaseOptions) -> Result<Self> {
        Self::with(options, Duration::MAX)
    }

    /// A pool for work without deadlines. A connection without an answer for this long counts as
    /// dead.
    pub(super) fn with(options: &DatabaseOptions, answer_timeout: Duration) -> Result<Self> {
        let timeout = Some(options.acquire_timeout);
        // Reports problems with certificates at startup.
        Connector::new(&options.connect)?;
        let (connect, statement_cache) = (options.connect.clone(), options.statement_cache);
        let manager = Manager { options: connect, statement_cache, answer_timeout };
        let pool = Pool::builder(manager)
            .max_size(options.max_connections)
            // The most recently used connection has the warmest plan and catalogue caches.
            .queue_mode(QueueMode::Lifo)
            .timeouts(Timeouts { wait: timeout, create: timeout, recycle: None })
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(Error::internal)?;
        Ok(Self { pool, reaper_scheduled: Arc::default() })
    }

    /// Waits for a free connection. Fails if too many requests wait already.
    pub(super) async fn lease(&self) -> Result<PoolObject> {
        let status = self.pool.status();
        if status.waiting >= status.max_size.saturating_mul(WAITING) {
            return Err(Error::unavailable(
                "too many requests are waiting for a database connection",
            ));
        }
        // In every case nothing was executed.
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => Error::Unavailable(Arc::new(error)),
            error => Error::Unavailable(Arc::new(error)),
        })
    }

    /// The maximum number of connections.
    pub(super) fn most(&self) -> usize {
        self.pool.status().max_size
    }

    /// Whether a request for a connection would have to wait.
    pub(super) fn are_all_busy(&self) -> bool {
        let status = self.pool.status();
        status.available == 0 && status.size >= status.max_size
    }

    /// The numbers of connections, for metrics.
    pub(super) fn state(&self, name: &str) -> PoolState {
        let status = self.pool.status();
        let busy = status.size.saturating_sub(status.available);
        PoolState { name: name.to_owned(), busy, idle: status.available, waiting: status.waiting }
    }

    /// Closes connections that were idle for this long.
    pub(super) fn close_idle(&self, idle: Duration) {
        self.pool.retain(|_, metrics| metrics.last_used() < idle);
    }

    /// Closes all idle connections, because a dead one makes the others suspect.
    pub(super) fn discard_idle(&self) {
        self.pool.retain(|_, _| false);
    }

    /// Returns a connection whose read transaction is finished, and defers the rollback.
    pub(super) fn return_deferred(&self, lease: PoolObject, runtime: &Handle) {
        lease.defer_rollback();
        drop(lease);
        if self.reaper_scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let connections = self.clone();
        runtime.spawn(async move {
            tokio::time::sleep(REAP_AFTER).await;
            // Cleared first: a connection that is returned from now on needs another run.
            connections.reaper_scheduled.store(false, Ordering::Release);
            connections.pool.retain(|link, _| {
                link.send_deferred_rollback();
                true
            });
        });
    }
}

/// The time after which a missing answer to BEGIN is suspicious; normally it takes milliseconds.
const SUSPICIOUS: Duration = Duration::from_millis(500);

/// The stall guard for the first answer of a transaction. Cancelling a long wait suggests that the
/// server is unreachable, so the idle connections are closed as well.
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
