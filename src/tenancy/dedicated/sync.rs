//! Sync between the control database and the dedicated databases. The directory in the control
//! database receives what was committed in dedicated databases, and these receive changes of users.
//! Both copy current rows and not events, so repeated or reordered copies do no harm. Interrupted
//! moves are completed here, too.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use entity::OrganizationId;
use pg::Parameters;
use sea_orm::Values;
use uuid::Uuid;

use super::{
    super::{Access, Transaction, pools::query_once},
    database::DedicatedDatabase,
    databases::DedicatedDatabases,
};
use crate::error::{Error, Result};

/// The interval of polls for pending changes that another server left.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often a dedicated database is checked again.
const CHECK_INTERVAL: Duration = Duration::from_mins(5);

/// The number of changes copied at once.
const BATCH: i32 = 1_000;

const USER_COPY: &str = "SELECT auth.read_user($1)::text AS copy";
const STORE_USER: &str = "SELECT auth.copy_user($1::text::jsonb)";

/// The interval of checks for idle connections.
const CHECK_IDLE: Duration = Duration::from_secs(15);

impl DedicatedDatabases {
    /// Keeps directory and users in sync and closes idle connections. Never returns.
    pub async fn keep_synced(&self) {
        let each = self.all().map(|database| self.keep_directory_synced(database));
        tokio::join!(
            futures_util::future::join_all(each),
            self.keep_users_synced(),
            self.close_idle()
        );
    }

    /// Copies changed users now. Call it after the commit.
    pub fn user_changed(&self) {
        self.users_changed.notify_one();
    }

    async fn close_idle(&self) {
        loop {
            tokio::time::sleep(CHECK_IDLE).await;
            self.all().for_each(|database| database.close_idle());
        }
    }

    async fn keep_directory_synced(&self, database: &Arc<DedicatedDatabase>) {
        let mut checked = None::<Instant>;
        loop {
            let synced = async {
                if checked.is_none_or(|checked| checked.elapsed() > CHECK_INTERVAL) {
                    database.check_again().await?;
                    checked = Some(Instant::now());
                }
                self.sync_directory(database).await
            };
            if let Err(error) = synced.await {
                tracing::warn!(%error, cause = error.cause(), database = %database.name, "directory sync failed");
                tokio::time::sleep(INTERVAL).await;
            } else {
                // A timeout is a poll, for changes that another server left.
                let _ = tokio::time::timeout(INTERVAL, database.directory_changed.notified()).await;
            }
        }
    }

    /// Copies to the directory all pending changes that were committed before this call.
    pub(super) async fn sync_directory(&self, database: &DedicatedDatabase) -> Result<()> {
        // Boxed: large, and rarely needed.
        database.rounds.join(Box::pin(self.sync_pending(database))).await
    }

    async fn sync_pending(&self, database: &DedicatedDatabase) -> Result<()> {
        // A failure for one organization must not stop the sync of others.
        let mut refused: Vec<Uuid> = Vec::new();
        loop {
            let sql = "SELECT numbers, change::text AS change, (change ->> 'organization')::uuid AS organization FROM app.pending_directory_changes($1, $2)";
            let values = vec![BATCH.into(), refused.clone().into()];
            let parameters = Parameters::of(Some(Values(values)))?;
            let (there, rows) =
                Transaction::begin(&database.upkeep, Access::Write, None, sql, &parameters).await?;
            let pending = rows.iter().map(|row| {
                let numbers: Vec<i64> = row.try_get("numbers")?;
                Ok((numbers, row.try_get("change")?, row.try_get("organization")?))
            });
            let pending: Vec<(Vec<i64>, String, Uuid)> = pending.collect::<pg::Result<_>>()?;
            if pending.is_empty() {
                there.roll_back().await;
                return Ok(());
            }
            refused.extend(self.apply_to_directory(database, &pending).await?);
            let applied =
                pending.iter().filter(|(.., organization)| !refused.contains(organization));
            let numbers: Vec<i64> = applied.flat_map(|(numbers, ..)| numbers).copied().collect();
            let mark = "SELECT app.delete_directory_changes($1)";
            there.query(mark, Some(Values(vec![numbers.into()]))).await?;
            there.commit().await?;
        }
    }

    /// Applies pending changes to the directory. Returns the organizations for which that failed.
    async fn apply_to_directory(
        &self,
        database: &DedicatedDatabase,
        pending: &[(Vec<i64>, String, Uuid)],
    ) -> Result<Vec<Uuid>> {
        let rows = pending.iter().map(|(_, row, _)| row.as_str()).collect::<Vec<_>>();
        let rows = format!("[{}]", rows.join(","));
        let sync_directory =
            "SELECT organization, reason FROM app.apply_directory_changes($1, $2::text::jsonb)";
        let values = Values(vec![(&*database.name).into(), rows.into()]);
        let refused = query_once(&self.upkeep, Access::Write, sync_directory, Some(values)).await?;
        let refused = refused.iter().map(|row| {
            let organization: Uuid = row.try_get("organization")?;
            let reason: &str = row.try_get("reason")?;
            tracing::error!(%organization, database = %database.name, reason, "cannot sync an organization to the directory");
            Ok(organization)
        });
        Ok(refused.collect::<pg::Result<_>>()?)
    }

    async fn keep_users_synced(&self) {
        loop {
            if let Err(error) = self.sync_users().await {
                tracing::warn!(%error, cause = error.cause(), "could not copy changed users to dedicated databases");
            }
            // A timeout is a poll, for changes that another server left.
            let _ = tokio::time::timeout(INTERVAL, self.users_changed.notified()).await;
        }
    }

    /// Copies changed users to the dedicated databases that have them. Skips a database that does
    /// not respond until the next run.
    async fn sync_users(&self) -> Result<()> {
        let sql = "SELECT number, user_id, database FROM auth.pending_user_changes($1, $2)";
        let (mut unavailable, mut failure) = (Vec::<String>::new(), None);
        loop {
            let values = Values(vec![BATCH.into(), unavailable.clone().into()]);
            let rows = query_once(&self.upkeep, Access::Read, sql, Some(values)).await?;
            if rows.is_empty() {
                return failure.map_or(Ok(()), Err);
            }
            let mut copied: Vec<i64> = Vec::new();
            for row in &rows {
                let name: String = row.try_get("database")?;
                if unavailable.contains(&name) {
                    continue;
                }
                let user = row.try_get("user_id")?;
                let copying = async {
                    let database = self.database_for_system(&name).await?;
                    self.copy_user(&database, user).await
                };
                match copying.await {
                    Ok(()) => copied.push(row.try_get("number")?),
                    Err(error) => {
                        unavailable.push(name);
                        failure = Some(error);
                    }
                }
            }
            let mark = "SELECT auth.delete_user_changes($1)";
            let values = Values(vec![copied.into()]);
            query_once(&self.upkeep, Access::Write, mark, Some(values)).await?;
        }
    }

    /// Copies a user to a dedicated database. The transaction locks the user until the copy is
    /// stored.
    pub(super) async fn copy_user(&self, database: &DedicatedDatabase, user: Uuid) -> Result<()> {
        let parameters = Parameters::of(Some(Values(vec![user.into()])))?;
        let (control, rows) =
            Transaction::begin(&self.upkeep, Access::Write, None, USER_COPY, &parameters).await?;
        let copy = rows.first().map(|row| row.try_get::<_, Option<String>>("copy")).transpose()?;
        if let Some(copy) = copy.flatten() {
            // Holders of an upkeep connection must not wait for another connection to the control
            // database.
            let values = Some(Values(vec![copy.into()]));
            query_once(&database.system, Access::Write, STORE_USER, values).await?;
        }
        control.roll_back().await;
        Ok(())
    }

    /// Completes a move that was interrupted between its two commits. The organization's rows were
    /// copied before the first commit, so any server may do this, repeatedly. The numbers are the
    /// generations of the placement in the control database and in the dedicated one.
    pub(super) async fn complete_move(
        &self,
        database: &DedicatedDatabase,
        organization: OrganizationId,
        (control, dedicated): (Option<i64>, Option<i64>),
    ) -> Result<()> {
        let name = &database.name;
        let missing = || {
            Error::unavailable(format!(
                "the organization {} should be in the database {name} and is not there",
                organization.0
            ))
        };
        let (control, dedicated) = control.zip(dedicated).ok_or_else(missing)?;
        let (accepting, direction) = match dedicated - control {
            0 => (&database.upkeep, "into"),
            1 => (&self.upkeep, "out of"),
            _ => return Err(missing()),
        };
        tracing::info!(organization = %organization.0, database = %name, "completing a move {direction} a dedicated database");
        let accept = "SELECT app.accept_organization($1, $2)";
        let values = Values(vec![organization.0.into(), dedicated.into()]);
        query_once(accepting, Access::Write, accept, Some(values)).await?;
        Ok(())
    }
}
