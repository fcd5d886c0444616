//! What goes on between the control database and those of organizations' own: the directory follows
//! what was committed there, and what they know of people follows what was committed here. Both
//! bring rows as they are, not what happened to them, so that bringing them twice, or after
//! something else, does no harm.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sea_orm::Values;
use uuid::Uuid;

use super::{
    Access, Databases, Transaction,
    dedicated::DedicatedDatabase,
    driver::{Parameters, failed},
    routing::copy_user,
};
use crate::error::Result;

/// How often is looked for what another server has left.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often a database is looked at, whether it is still as it must be.
const LOOK: Duration = Duration::from_mins(5);

/// Changes that are brought at once.
const BATCH: i32 = 1_000;

impl Databases {
    /// Keeps the directory and the people in step, and closes what is idle, for ever; ends at once
    /// where there is one database alone.
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
        let mut looked = None::<Instant>;
        loop {
            let followed = async {
                if looked.is_none_or(|looked| looked.elapsed() > LOOK) {
                    database.check_again().await?;
                    looked = Some(Instant::now());
                }
                self.sync_directory(database).await
            };
            if let Err(error) = followed.await {
                tracing::warn!(%error, cause = error.cause(), database = %database.name(), "the directory does not follow");
                tokio::time::sleep(INTERVAL).await;
            } else {
                // Elapsed is as good as told.
                let _ = tokio::time::timeout(INTERVAL, database.news.notified()).await;
            }
        }
    }

    /// Brings everything to the directory that was committed in a database so far.
    pub(super) async fn sync_directory(&self, database: &DedicatedDatabase) -> Result<()> {
        // Large, and rare.
        database.rounds.join(Box::pin(self.sync_directories(database))).await
    }

    async fn sync_directories(&self, database: &DedicatedDatabase) -> Result<()> {
        // Of one organization's trouble others are not to hear.
        let mut refused: Vec<Uuid> = Vec::new();
        loop {
            let news = "SELECT numbers, news::text AS news, (news ->> 'organization')::uuid AS organization FROM app.directory_news($1, $2)";
            let values = vec![BATCH.into(), refused.clone().into()];
            let parameters = Parameters::of(Some(Values(values)))?;
            let (there, rows) =
                Transaction::begin(database.upkeep(), Access::Write, None, news, &parameters)
                    .await?;
            let news = rows.iter().map(|row| {
                let numbers: Vec<i64> = row.try_get("numbers")?;
                Ok((numbers, row.try_get("news")?, row.try_get("organization")?))
            });
            let news: Vec<(Vec<i64>, String, Uuid)> =
                news.collect::<Result<_, _>>().map_err(failed)?;
            if news.is_empty() {
                there.roll_back().await;
                return Ok(());
            }
            refused.extend(self.bring(database, &news).await?);
            let brought = news.iter().filter(|(.., organization)| !refused.contains(organization));
            let numbers: Vec<i64> = brought.flat_map(|(numbers, ..)| numbers).copied().collect();
            let followed = "SELECT app.directory_followed($1)";
            there.query(followed, Some(Values(vec![numbers.into()]))).await?;
            there.commit().await?;
        }
    }

    /// The organizations of which it could not be brought.
    async fn bring(
        &self,
        database: &DedicatedDatabase,
        news: &[(Vec<i64>, String, Uuid)],
    ) -> Result<Vec<Uuid>> {
        let rows = news.iter().map(|(_, row, _)| row.as_str()).collect::<Vec<_>>();
        let rows = format!("[{}]", rows.join(","));
        let sync_directory =
            "SELECT organization, reason FROM app.follow_directory($1, $2::text::jsonb)";
        let values = Values(vec![(&**database.name()).into(), rows.into()]);
        let refused = self.ask_control(Access::Write, sync_directory, Some(values)).await?;
        let refused = refused.iter().map(|row| {
            let organization: Uuid = row.try_get("organization")?;
            let reason: &str = row.try_get("reason")?;
            tracing::error!(%organization, database = %database.name(), reason, "the directory cannot follow");
            Ok(organization)
        });
        Ok(refused.collect::<Result<_, _>>().map_err(failed)?)
    }

    async fn keep_users_synced(&self) {
        loop {
            if let Err(error) = self.sync_users().await {
                tracing::warn!(%error, cause = error.cause(), "what databases know of people is not brought up to date");
            }
            // Elapsed is as good as told.
            let _ = tokio::time::timeout(INTERVAL, self.users().notified()).await;
        }
    }

    /// Brings everybody who has changed to the databases that know them. One that does not answer
    /// is told later.
    async fn sync_users(&self) -> Result<()> {
        let news = "SELECT number, user_id, database FROM auth.people_news($1, $2)";
        let (mut silent, mut failure) = (Vec::<String>::new(), None);
        loop {
            let values = Values(vec![BATCH.into(), silent.clone().into()]);
            let rows = self.ask_control(Access::Read, news, Some(values)).await?;
            if rows.is_empty() {
                return failure.map_or(Ok(()), Err);
            }
            let mut stored_placement: Vec<i64> = Vec::new();
            for row in &rows {
                let name: String = row.try_get("database").map_err(failed)?;
                if silent.contains(&name) {
                    continue;
                }
                let user = row.try_get("user_id").map_err(failed)?;
                let brought = async {
                    let database = self.database_for_system(&name).await?;
                    copy_user(self, &database, user).await
                };
                match brought.await {
                    Ok(()) => stored_placement.push(row.try_get("number").map_err(failed)?),
                    Err(error) => {
                        silent.push(name);
                        failure = Some(error);
                    }
                }
            }
            let followed = "SELECT auth.people_followed($1)";
            let values = Values(vec![stored_placement.into()]);
            self.ask_control(Access::Write, followed, Some(values)).await?;
        }
    }
}
