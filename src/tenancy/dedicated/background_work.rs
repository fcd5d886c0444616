//! Transactions of background work in a dedicated database.

use std::{sync::Arc, time::Duration};

use entity::OrganizationId;

use super::{
    super::{
        Access, Transaction,
        entry::{ENTER, Entered, MOST_MOVES, being_moved, entering},
    },
    databases::{DedicatedDatabases, contradiction},
    remote::{Begun, Remote},
};
use crate::error::{Error, Result};

/// How long background work that holds a connection waits for a dedicated database.
const REMOTE_WAIT: Duration = Duration::from_secs(3);

impl DedicatedDatabases {
    /// Begins in the organization, if it is still where it was last seen. After an error it is
    /// probably still there, so the database stays remembered.
    pub async fn begin_last_seen(
        self: &Arc<Self>,
        access: Access,
        organization: OrganizationId,
    ) -> Option<Begun> {
        let name = self.guess(organization)?;
        let (begun, entered) = self.begin(access, &name, Some(organization)).await.ok()?;
        if let Entered::Here(_) = entered {
            return Some(begun);
        }
        begun.0.roll_back().await;
        self.forget(organization);
        None
    }

    /// Begins in the organization, which lives in this database since `generation`. Returns `None`
    /// after an interrupted move was completed: ask the control database again.
    pub async fn find(
        self: &Arc<Self>,
        access: Access,
        organization: OrganizationId,
        (name, generation): (&Arc<str>, Option<i64>),
    ) -> Result<Option<Begun>> {
        let (begun, entered) = self.begin(access, name, Some(organization)).await?;
        let theirs = match entered {
            Entered::Here(_) => {
                self.remember(organization, name);
                return Ok(Some(begun));
            }
            Entered::Elsewhere(theirs) => theirs,
            Entered::Database(other, _) => return Err(contradiction(name, &other)),
        };
        let (transaction, remote) = begun;
        transaction.roll_back().await;
        self.complete_move(&remote.database, organization, (generation, theirs)).await?;
        Ok(None)
    }

    /// Enters the organization, for work that began in the control database. Fails at once if other
    /// background work just failed to begin in the dedicated database. The timeout matters because
    /// this work holds one of the few connections of background work in the control database.
    pub async fn enter(
        self: &Arc<Self>,
        organization: OrganizationId,
        place: (&Arc<str>, Option<i64>),
    ) -> Result<Begun> {
        let entering = async {
            for _ in 0..MOST_MOVES {
                if let Some(begun) = self.find(Access::Write, organization, place).await? {
                    return Ok(begun);
                }
            }
            Err(being_moved())
        };
        tokio::time::timeout(REMOTE_WAIT, entering).await.map_err(|_| {
            Error::unavailable("the dedicated database of an organization does not respond")
        })?
    }

    /// Begins outside any organization.
    pub async fn begin_outside(self: &Arc<Self>, access: Access, name: &str) -> Result<Begun> {
        Ok(self.begin(access, name, None).await?.0)
    }

    async fn begin(
        self: &Arc<Self>,
        access: Access,
        name: &str,
        organization: Option<OrganizationId>,
    ) -> Result<(Begun, Entered)> {
        let database = self.database_for_system(name).await?;
        let parameters = entering(organization)?;
        let begun = Transaction::begin(&database.system, access, None, ENTER, &parameters).await;
        database.answered(begun.is_ok());
        let (transaction, rows) = begun?;
        let entered = Entered::read(&rows, organization)?;
        Ok(((transaction, Remote::of(self, database)), entered))
    }
}
