//! A session in a dedicated database: what remains to be done in the control database.

use std::{sync::Arc, time::Duration};

use super::{Databases, Transaction, dedicated::DedicatedDatabase, enter::RemoteTransaction};
use crate::error::{Error, Result};

/// How long a commit waits for directory sync. The client's next request often depends on it: for
/// example, an accepted invitation is looked up in the control database.
const DIRECTORY_WAIT: Duration = Duration::from_secs(2);

/// The dedicated database of a session's transaction.
#[derive(Debug)]
pub(super) struct Remote {
    database: Arc<DedicatedDatabase>,
    /// The transaction in the control database in which the work began, if it began there.
    /// Boxed: large, and rarely present.
    begun: Option<Box<Transaction>>,
}

impl Remote {
    /// For work that began in this database, or in the control database.
    pub(super) fn of(database: Option<Arc<DedicatedDatabase>>) -> Option<Self> {
        Some(Self { database: database?, begun: None })
    }

    /// For work that began in the control database and continues in a dedicated one. Returns the
    /// transaction in which it continues.
    pub(super) fn after(
        begun: Transaction,
        (transaction, database): RemoteTransaction,
    ) -> (Transaction, Option<Self>) {
        (transaction, Some(Self { database, begun: Some(Box::new(begun)) }))
    }

    /// The transaction in the control database in which the work began, if it began there.
    pub(super) fn begun(&self) -> Option<&Transaction> {
        self.begun.as_deref()
    }

    /// Commits in the control database after the commit in the dedicated one, and waits for
    /// directory sync. This commit is lost if the server stops in between, so it must hold nothing
    /// essential.
    async fn follow_commit(&self, databases: &Databases) -> Result<()> {
        let followed = match &self.begun {
            Some(begun) => begun.commit().await.map_err(Error::from),
            None => Ok(()),
        };
        let syncing = databases.sync_directory(&self.database);
        if !matches!(tokio::time::timeout(DIRECTORY_WAIT, syncing).await, Ok(Ok(()))) {
            // The background task syncs the directory in that case.
            self.database.directory_changed.notify_one();
        }
        followed.map_err(Error::after_the_fact)
    }
}

/// Commits a session's transaction, and what depends on it in the control database.
pub(super) async fn commit(
    databases: &Databases,
    transaction: &Transaction,
    remote: Option<&Remote>,
) -> Result<()> {
    transaction.commit().await?;
    match remote {
        // Boxed: large, and rarely needed.
        Some(remote) => Box::pin(remote.follow_commit(databases)).await,
        None => Ok(()),
    }
}
