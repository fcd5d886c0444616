//! A connection on loan to a transaction, and what is known of that transaction when it comes back.

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

use super::{
    connection::Connection,
    pool::{ConnectionPool, PoolObject},
};
use crate::error::Result;

/// An abandoned transaction is rolled back within this time, or its connection is closed.
const ROLLBACK_WAIT: Duration = Duration::from_secs(3);

/// A rollback that is not answered within this time waits behind a long statement, which is
/// cancelled. Most are answered within a millisecond, and their connections are kept.
const CANCEL_AFTER: Duration = Duration::from_millis(50);
const CANCEL_AGAIN: Duration = Duration::from_millis(100);

/// What is known of a connection's transaction.
const OPEN: u8 = 0;
pub(super) const CLEAN: u8 = 1;
pub(super) const LOST: u8 = 2;
pub(super) const FORSAKEN: u8 = 3;

/// A connection that leaves nothing to whoever has it next: dropped in whatever state, it is rolled
/// back first, behind everybody's back, or closed; or its next user begins with the rollback.
pub(super) struct PooledConnection {
    lease: Option<PoolObject>,
    connections: ConnectionPool,
    state: AtomicU8,
    /// What must not end before the connection is free.
    held: OnceLock<Held>,
}

/// Ends when it is dropped.
pub(super) type Held = Arc<dyn Any + Send + Sync>;

impl PooledConnection {
    pub(super) async fn new(connections: &ConnectionPool) -> Result<Self> {
        let (lease, connections) = (Some(connections.lease().await?), connections.clone());
        Ok(Self { lease, connections, state: AtomicU8::new(OPEN), held: OnceLock::new() })
    }

    pub(super) fn link(&self) -> Result<&Connection, sqlx::Error> {
        self.lease.as_deref().ok_or(sqlx::Error::PoolClosed)
    }

    /// Where it comes from.
    pub(super) fn connections(&self) -> &ConnectionPool {
        &self.connections
    }

    /// Keeps something for as long as the connection is not free.
    pub(super) fn hold(&self, held: Held) {
        // Set once: a request has one turn.
        let _ = self.held.set(held);
    }

    pub(super) fn set(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }

    /// A statement that was abandoned may still be running; the rollback waits for it, but not for
    /// long.
    pub(super) async fn roll_back(&self) {
        let Ok(link) = self.link() else { return };
        self.set(rolled_back(link).await);
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        let is_whole = lease.is_whole();
        match (self.state.load(Ordering::Relaxed), Handle::try_current()) {
            (CLEAN, _) if is_whole => drop(lease),
            (FORSAKEN, Ok(runtime)) if is_whole => self.connections.forsake(lease, &runtime),
            // Not through `PooledConnection`, whose drop would begin anew when the runtime ends.
            (OPEN, Ok(runtime)) => {
                let held = self.held.take();
                drop(runtime.spawn(async move {
                    // Also when this ends in between.
                    lease.forsake();
                    match rolled_back(&lease).await {
                        CLEAN if lease.is_whole() => {
                            lease.take_forsaken();
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

/// Rolls back behind the statements that still run. What takes long is cancelled: the statements
/// that wait behind it then fail at once, because their transaction has failed. A connection on
/// which something was cancelled is closed.
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
            // It had no effect if it came between two statements.
            sleep(CANCEL_AGAIN).await;
        }
    };
    // Waited for, so that the next request has its turn only when PostgreSQL has ended this one.
    let _ = timeout(ROLLBACK_WAIT, async {
        tokio::select! {
            _ = rolled_back => {}
            () = cancelling => {}
        }
    })
    .await;
    LOST
}
