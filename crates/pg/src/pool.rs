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
use tokio::runtime::Handle;

use crate::{Error, PoolOptions, Result, connection::Connection, tls::Connector};

/// The state of a pool.
#[derive(Clone, Debug)]
pub struct PoolState {
    /// The name of the pool.
    pub name: String,
    /// Connections in use.
    pub busy: usize,
    /// Connections that are open and unused.
    pub idle: usize,
    /// Callers that wait for a connection.
    pub waiting: usize,
}

/// A checked-out connection; its drop returns it.
pub(crate) type PoolObject = Object<Manager>;

/// Opens the pool's connections.
pub(crate) struct Manager(PoolOptions);

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = Error;

    async fn create(&self) -> Result<Connection> {
        // Boxed: large, and rarely needed.
        Box::pin(Connection::open(&self.0)).await
    }

    async fn recycle(&self, link: &mut Connection, _: &Metrics) -> RecycleResult<Error> {
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
pub struct ConnectionPool {
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
    /// Configures a pool; opens no connection.
    ///
    /// # Errors
    ///
    /// When a certificate cannot be read.
    pub fn new(options: PoolOptions) -> Result<Self> {
        let timeout = Some(options.acquire_timeout);
        // Reports problems with certificates at startup.
        Connector::new(&options.connect)?;
        let max_connections = options.max_connections;
        let pool = Pool::builder(Manager(options))
            .max_size(max_connections)
            // The most recently used connection has the warmest plan and catalogue caches.
            .queue_mode(QueueMode::Lifo)
            .timeouts(Timeouts { wait: timeout, create: timeout, recycle: None })
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(Error::configuration)?;
        Ok(Self { pool, reaper_scheduled: Arc::default() })
    }

    /// Waits for a free connection. Fails if too many requests wait already.
    pub(crate) async fn lease(&self) -> Result<PoolObject> {
        let status = self.pool.status();
        if status.waiting >= status.max_size.saturating_mul(WAITING) {
            return Err(Error::connection(
                "too many requests are waiting for a database connection",
            ));
        }
        // In every case nothing was executed.
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => Error::connection(error),
            error => Error::connection(error),
        })
    }

    /// The maximum number of connections.
    #[must_use]
    pub fn most(&self) -> usize {
        self.pool.status().max_size
    }

    /// Whether a request for a connection would have to wait.
    #[must_use]
    pub fn are_all_busy(&self) -> bool {
        let status = self.pool.status();
        status.available == 0 && status.size >= status.max_size
    }

    /// The numbers of connections, for metrics.
    #[must_use]
    pub fn state(&self, name: &str) -> PoolState {
        let status = self.pool.status();
        let busy = status.size.saturating_sub(status.available);
        PoolState { name: name.to_owned(), busy, idle: status.available, waiting: status.waiting }
    }

    /// Closes connections that were idle for this long.
    pub fn close_idle(&self, idle: Duration) {
        self.pool.retain(|_, metrics| metrics.last_used() < idle);
    }

    /// Closes all idle connections, because a dead one makes the others suspect.
    pub fn discard_idle(&self) {
        self.pool.retain(|_, _| false);
    }

    /// Returns a connection whose read transaction is finished, and defers the rollback.
    pub(crate) fn return_deferred(&self, lease: PoolObject, runtime: &Handle) {
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
pub(crate) struct StallGuard<'connections> {
    connections: &'connections ConnectionPool,
    since: Instant,
    pub(crate) answered: bool,
}

impl<'connections> StallGuard<'connections> {
    pub(crate) fn begin(connections: &'connections ConnectionPool) -> Self {
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
