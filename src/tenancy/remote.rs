//! A session in a database of organizations' own: what it leaves in the control database, and what
//! it owes that.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Databases, Transaction, dedicated::DedicatedDatabase, enter_organization::RemoteEntry,
};
use crate::error::{Error, Result};

/// How long whoever has changed something waits for the directory to know it, so that what they do
/// next finds its way: an invitation is accepted in the control database.
const DIRECTORY_WAIT: Duration = Duration::from_secs(2);

/// Where a session is, if not in the control database.
#[derive(Debug, Default)]
pub(super) struct Remote(Mutex<Option<RemoteTransaction>>);

#[derive(Clone, Debug)]
struct RemoteTransaction {
    database: Arc<DedicatedDatabase>,
    /// The transaction from which it came, in the control database.
    begun: Option<Arc<Transaction>>,
}

impl Remote {
    /// Opened there, or nowhere but in the control database.
    pub(super) fn new(database: Option<Arc<DedicatedDatabase>>) -> Self {
        Self(Mutex::new(database.map(|database| RemoteTransaction { database, begun: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Option<RemoteTransaction>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is there now.
    pub(super) fn set(&self, database: Option<Arc<DedicatedDatabase>>) {
        *self.lock() = database.map(|database| RemoteTransaction { database, begun: None });
    }

    /// It goes there, and leaves its transaction open behind it.
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

    /// The transaction from which it came, if it has come from one.
    pub(super) fn begun(&self) -> Option<Arc<Transaction>> {
        self.lock().as_ref()?.begun.clone()
    }

    /// Commits there, then what was left behind, and sees to it that the directory follows. What
    /// was left behind must be such that it may be lost when everything ends in between.
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
        // Large, and rare.
        let left = Box::pin(async {
            let left = match begun {
                Some(begun) => begun.commit().await,
                None => Ok(()),
            };
            let following = databases.sync_directory(&database);
            if !matches!(tokio::time::timeout(DIRECTORY_WAIT, following).await, Ok(Ok(()))) {
                // It will be tried again, and told then.
                database.news.notify_one();
            }
            left
        });
        left.await.map_err(Error::after_the_fact)
    }
}
