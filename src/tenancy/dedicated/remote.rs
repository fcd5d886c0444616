//! A session in a dedicated database: what remains to be done in the control database.

use std::{sync::Arc, time::Duration};

use pg::Row;
use sea_orm::Values;

use super::{
    super::{
        Access, Transaction,
        placement::Placement,
        session_request::{SessionRequest, tenant},
    },
    database::DedicatedDatabase,
    databases::DedicatedDatabases,
};
use crate::error::{Error, Result};

/// How long a commit waits for directory sync. The client's next request often depends on it: for
/// example, an accepted invitation is looked up in the control database.
const DIRECTORY_WAIT: Duration = Duration::from_secs(2);

/// The dedicated database of a session's transaction.
#[derive(Debug)]
pub struct Remote {
    databases: Arc<DedicatedDatabases>,
    pub(super) database: Arc<DedicatedDatabase>,
    /// The transaction in the control database in which the work began, if it began there.
    /// Boxed: large, and rarely present.
    begun: Option<Box<Transaction>>,
}

/// A transaction that has begun in a dedicated database.
pub type Begun = (Transaction, Remote);

impl Remote {
    pub(super) fn of(
        databases: &Arc<DedicatedDatabases>,
        database: Arc<DedicatedDatabase>,
    ) -> Self {
        Self { databases: Arc::clone(databases), database, begun: None }
    }

    /// For work that began in the control database and continues in a dedicated one. Returns the
    /// transaction in which it continues.
    pub fn after(begun: Transaction, (transaction, remote): Begun) -> (Transaction, Option<Self>) {
        (transaction, Some(Self { begun: Some(Box::new(begun)), ..remote }))
    }

    /// The transaction in the control database in which the work began, if it began there.
    pub fn begun(&self) -> Option<&Transaction> {
        self.begun.as_deref()
    }

    /// Runs a statement in the control database, in a separate transaction as the same user and
    /// outside any organization. Its cost is charged to the session's budget.
    pub async fn ask_control(
        &self,
        session_request: &SessionRequest,
        session: &Transaction,
        access: Access,
        sql: &str,
        values: Option<Values>,
    ) -> Result<Vec<Row>> {
        let DedicatedDatabases { control, system, .. } = &*self.databases;
        let (outside, name) = (session_request.outside(), Placement::Shared.name());
        let (transaction, row) = outside.open(control, system, access, None, &name).await?;
        tenant(&row)?;
        session.share_budget(&transaction);
        let answer = transaction.query(sql, values).await;
        session.charge(&transaction)?;
        let answer = answer?;
        match access {
            Access::Read => transaction.release(),
            Access::Write => transaction.commit().await?,
        }
        Ok(answer.rows)
    }

    /// Commits in the control database after the commit in the dedicated one, and waits for
    /// directory sync. This commit is lost if the server stops in between, so it must hold nothing
    /// essential.
    async fn follow_commit(&self) -> Result<()> {
        let followed = match &self.begun {
            Some(begun) => begun.commit().await.map_err(Error::from),
            None => Ok(()),
        };
        let syncing = self.databases.sync_directory(&self.database);
        if !matches!(tokio::time::timeout(DIRECTORY_WAIT, syncing).await, Ok(Ok(()))) {
            // The background task syncs the directory in that case.
            self.database.directory_changed.notify_one();
        }
        followed.map_err(Error::after_the_fact)
    }
}

/// Commits a session's transaction, and what depends on it in the control database.
pub async fn commit(transaction: &Transaction, remote: Option<&Remote>) -> Result<()> {
    transaction.commit().await?;
    match remote {
        // Boxed: large, and rarely needed.
        Some(remote) => Box::pin(remote.follow_commit()).await,
        None => Ok(()),
    }
}
