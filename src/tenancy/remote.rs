//! The state of a session that continues in a dedicated database: the transaction still open in the
//! control database, and the directory sync that follows the commit.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Databases, Transaction, dedicated::DedicatedDatabase, enter_organization::RemoteEntry,
};
use crate::error::{Error, Result};

/// How long a commit waits for directory sync. The client's next request often depends on it: for
/// example, an accepted invitation is looked up in the control database.
const DIRECTORY_WAIT: Duration = Duration::from_secs(2);

/// The dedicated database in which a session is; `None` for the control database.
#[derive(Debug, Default)]
pub(super) struct Remote(Mutex<Option<RemoteTransaction>>);

#[derive(Clone, Debug)]
struct RemoteTransaction {
    database: Arc<DedicatedDatabase>,
    /// The transaction that the session left open in the control database.
    begun: Option<Arc<Transaction>>,
}

impl Remote {
    /// A session that was opened in a dedicated database, or in the control database.
    pub(super) fn new(database: Option<Arc<DedicatedDatabase>>) -> Self {
        Self(Mutex::new(database.map(|database| RemoteTransaction { database, begun: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Option<RemoteTransaction>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the database in which the session was opened again.
    pub(super) fn set(&self, database: Option<Arc<DedicatedDatabase>>) {
        *self.lock() = database.map(|database| RemoteTransaction { database, begun: None });
    }

    /// Continues the session in a dedicated database, and keeps its present transaction open.
    pub(super) fn go(&self, transaction: &Transaction, remote_entry: RemoteEntry) {
        let begun = transaction.set_aside();
        transaction.replace(&remote_entry.transaction);
        *self.lock() = Some(RemoteTransaction {
            database: remote_entry.database,
            begun: Some(Arc::new(begun)),
        });
    }

    pub(super) fn is_there(&self) -> bool {
        self.lock().is_some()
    }

    /// The transaction in the control database, if the session was opened there and moved on.
    pub(super) fn begun(&self) -> Option<Arc<Transaction>> {
        self.lock().as_ref()?.begun.clone()
    }

    /// Commits in the dedicated database, then in the control database, and waits for directory
    /// sync. The second commit is lost if the server stops in between, so it must hold nothing
    /// essential.
    pub(super) async fn commit(
        &self,
        databases: &Databases,
        transaction: &Transaction,
    ) -> Result<()> {
        transaction.commit().await?;
        let stay = self.lock().clone();
        let Some(RemoteTransaction { database, begun }) = stay else {
            return Ok(());
        };
        // Boxed: large, and rarely needed.
        let left = Box::pin(async {
            let left = match begun {
                Some(begun) => begun.commit().await.map_err(Error::from),
                None => Ok(()),
            };
            let syncing = databases.sync_directory(&database);
            if !matches!(tokio::time::timeout(DIRECTORY_WAIT, syncing).await, Ok(Ok(()))) {
                // The background task syncs the directory in that case.
                database.directory_changed.notify_one();
            }
            left
        });
        left.await.map_err(Error::after_the_fact)
    }
}
