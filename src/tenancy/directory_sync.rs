//! Sync between the control database and the dedicated databases. The directory in the control
//! database receives what was committed in dedicated databases, and these receive changes of users.
//! Both copy current rows and not events, so repeated or reordered copies do no harm.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pg::Parameters;
use sea_orm::Values;
use uuid::Uuid;

use super::{
    Access, Databases, Transaction, dedicated::DedicatedDatabase, placement_routing::copy_user,
};
use crate::error::Result;

/// The interval of polls for pending changes that another server left.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often a dedicated database is checked again.
const CHECK_INTERVAL: Duration = Duration::from_mins(5);

/// The number of changes copied at once.
const BATCH: i32 = 1_000;

impl Databases {
    /// Keeps directory and users in sync and closes idle connections. Returns at once if there are
    /// no dedicated databases, and otherwise never.
    pub async fn keep_synced(&self) {
        if self.dedicated_databases().is_empty() {
            return;
        }
        let each =
            self.dedicated_databases().all().map(|database| self.keep_directory_synced(database));
        tokio::join!(
            futures_util::future::join_all(each),
            self.keep_users_synced(),
            self.dedicated_databases().close_idle()
        );
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
                tracing::warn!(%error, cause = error.cause(), database = %database.name(), "directory sync failed");
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
                Transaction::begin(database.upkeep(), Access::Write, None, sql, &parameters)
                    .await?;
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
        let values = Values(vec![(&**database.name()).into(), rows.into()]);
        let refused = self.ask_control(Access::Write, sync_directory, Some(values)).await?;
        let refused = refused.iter().map(|row| {
            let organization: Uuid = row.try_get("organization")?;
            let reason: &str = row.try_get("reason")?;
            tracing::error!(%organization, database = %database.name(), reason, "cannot sync an organization to the directory");
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
            let _ = tokio::time::timeout(INTERVAL, self.users_changed().notified()).await;
        }
    }

    /// Copies changed users to the dedicated databases that have them. Skips a database that does
    /// not respond until the next run.
    async fn sync_users(&self) -> Result<()> {
        let sql = "SELECT number, user_id, database FROM auth.pending_user_changes($1, $2)";
        let (mut unavailable, mut failure) = (Vec::<String>::new(), None);
        loop {
            let values = Values(vec![BATCH.into(), unavailable.clone().into()]);
            let rows = self.ask_control(Access::Read, sql, Some(values)).await?;
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
                    copy_user(self, &database, user).await
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
            self.ask_control(Access::Write, mark, Some(values)).await?;
        }
    }
}
