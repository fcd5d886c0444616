//! A pooled connection and the state of its transaction. The connection returns to the pool clean,
//! or with a deferred rollback, or not at all.

use std::{
    any::Any,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

use crate::{ConnectionPool, Error, Result, connection::Connection, pool::PoolObject};

/// The maximum time for rolling back an abandoned transaction; then the connection is closed.
const ROLLBACK_WAIT: Duration = Duration::from_secs(3);

/// How long a rollback may wait behind a running statement before that is cancelled. Most take less
/// than a millisecond, and their connections are kept.
const CANCEL_AFTER: Duration = Duration::from_millis(50);
const CANCEL_AGAIN: Duration = Duration::from_millis(100);

/// The state of a connection's transaction.
const OPEN: u8 = 0;
pub(crate) const CLEAN: u8 = 1;
pub(crate) const LOST: u8 = 2;
pub(crate) const ROLLBACK_DEFERRED: u8 = 3;

/// A connection in use by one transaction. Its drop either returns it to the pool clean or with a
/// deferred rollback, or rolls back in the background, or closes it.
pub(crate) struct PooledConnection {
    lease: Option<PoolObject>,
    connections: ConnectionPool,
    state: AtomicU8,
    /// Dropped when the connection is free again.
    held: OnceLock<Held>,
}

/// A value whose drop marks the end of a connection's use.
pub(crate) type Held = Arc<dyn Any + Send + Sync>;

impl PooledConnection {
    pub(crate) async fn new(connections: &ConnectionPool) -> Result<Self> {
        let (lease, connections) = (Some(connections.lease().await?), connections.clone());
        Ok(Self { lease, connections, state: AtomicU8::new(OPEN), held: OnceLock::new() })
    }

    pub(crate) fn link(&self) -> Result<&Connection> {
        self.lease.as_deref().ok_or_else(Error::closed)
    }

    /// The pool of this connection.
    pub(crate) fn connections(&self) -> &ConnectionPool {
        &self.connections
    }

    /// Keeps `held` alive until the connection is free.
    pub(crate) fn hold(&self, held: Held) {
        // Set once, because a request has one permit.
        let _ = self.held.set(held);
    }

    pub(crate) fn set(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }

    /// Rolls back. An abandoned statement may still run, so this waits for it, but only briefly.
    pub(crate) async fn roll_back(&self) {
        let Ok(link) = self.link() else { return };
        self.set(rolled_back(link).await);
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        let is_reusable = lease.is_reusable();
        match (self.state.load(Ordering::Relaxed), Handle::try_current()) {
            (CLEAN, _) if is_reusable => drop(lease),
            (ROLLBACK_DEFERRED, Ok(runtime)) if is_reusable => {
                self.connections.return_deferred(lease, &runtime);
            }
            // Not through `PooledConnection`: if the runtime ends, its drop would spawn this task
            // again.
            (OPEN, Ok(runtime)) => {
                let held = self.held.take();
                drop(runtime.spawn(async move {
                    // If this task is dropped, the next user of the connection rolls back.
                    lease.defer_rollback();
                    match rolled_back(&lease).await {
                        CLEAN if lease.is_reusable() => {
                            lease.take_deferred_rollback();
                            drop(lease);
                        }
                        _ => drop(PoolObject::take(lease)),
                    }
                    drop(held);
                }));
            }
            _ => drop(PoolObject::take(lease)),
        }
    }
}

/// Rolls back behind the statements that still run, and cancels those that take long. After a
/// cancellation the queued ones fail at once, because their transaction has failed, and the result
/// is `LOST`, so that the connection is closed.
async fn rolled_back(link: &Connection) -> u8 {
    let mut rolled_back = pin!(link.execute("ROLLBACK"));
    match timeout(CANCEL_AFTER, rolled_back.as_mut()).await {
        Ok(Ok(())) => return CLEAN,
        Ok(Err(_)) => return LOST,
        Err(_) => {}
    }
    let cancelling = async {
        loop {
            link.cancel().await;
            // A request between two statements has no effect, so it is repeated.
            sleep(CANCEL_AGAIN).await;
        }
    };
    // The request's permit must not be free before PostgreSQL has ended its transaction.
    let _ = timeout(ROLLBACK_WAIT, async {
        tokio::select! {
            _ = rolled_back => {}
            () = cancelling => {}
        }
    })
    .await;
    LOST
}
