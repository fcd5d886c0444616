//! Connections: how one is made, and the pool that lends them.
//!
//! The pool asks nothing of a connection that comes back: a transaction gives back clean connections only
//! (`transaction.rs`), and a dead one is noticed by the statement that opens a session (`open.rs`).
#![expect(clippy::disallowed_types, reason = "this is where connections are made")]

use std::time::Duration;

use deadpool::managed::{
    self, Metrics, Object, Pool, PoolError, QueueMode, RecycleResult, Timeouts,
};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use crate::error::{Error, Result};

/// How to reach a database, and with how many connections.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// Address, login and session options.
    pub connect: PgConnectOptions,
    /// Where to listen for changes, if a pooler stands between; it must keep a connection for as long as it is held.
    pub listen: Option<PgConnectOptions>,
    /// The size of the pool.
    pub max_connections: usize,
    /// How long to wait for a free connection, and for a new one.
    pub acquire_timeout: Duration,
}

/// A connection on loan; dropping it gives it back.
pub(super) type Lease = Object<Connector>;

pub(super) struct Connector {
    options: PgConnectOptions,
}

impl managed::Manager for Connector {
    type Type = PgConnection;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.options).await
    }

    async fn recycle(&self, _: &mut PgConnection, _: &Metrics) -> RecycleResult<sqlx::Error> {
        Ok(())
    }
}

/// The pool of one database; cheap to clone.
#[derive(Clone)]
pub(super) struct Connections(Pool<Connector>);

impl std::fmt::Debug for Connections {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl Connections {
    pub(super) fn new(options: DatabaseOptions) -> Result<Self> {
        let timeout = Some(options.acquire_timeout);
        let pool = Pool::builder(Connector { options: options.connect })
            .max_size(options.max_connections)
            // The connection that was used last has its plans and its caches warm.
            .queue_mode(QueueMode::Lifo)
            .timeouts(Timeouts { wait: timeout, create: timeout, recycle: None })
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(Error::internal)?;
        Ok(Self(pool))
    }

    pub(super) async fn lease(&self) -> Result<Lease> {
        self.0.get().await.map_err(|error| match error {
            PoolError::Backend(error) => Error::from(error),
            error => Error::Unavailable(std::sync::Arc::new(error)),
        })
    }

    /// Closes every idle connection: one turned out dead, so the others are suspect.
    pub(super) fn discard_idle(&self) {
        self.0.retain(|_, _| false);
    }
}
