//! Directory sync for one organization that returns to the control database. Servers do the same
//! for all organizations, continuously.

use sqlx::Connection;

use super::{CrossDatabaseMove, Endpoints};
use crate::cli::Failure;

/// The lock that directory sync holds in the dedicated database.
pub(in crate::cli::tenant) const LOCK: &str = "hashtextextended('tenantry directory', 0)";

impl CrossDatabaseMove {
    /// Copies all pending changes that are committed by now to the control database's directory.
    pub(super) async fn sync_directory(
        &self,
        ends: &mut Endpoints<'_>,
    ) -> Result<Result<(), Failure>, sqlx::Error> {
        let mut transaction = ends.there.begin().await?;
        let (numbers, news): (Vec<i64>, String) = sqlx::query_as(
            "WITH changes AS MATERIALIZED (
                 SELECT * FROM app.pending_directory_changes(2147483647) WHERE (change ->> 'organization')::uuid = $1)
             SELECT (SELECT coalesce(array_agg(number), '{}') FROM changes, unnest(numbers) number),
                    (SELECT coalesce(jsonb_agg(change), '[]')::text FROM changes)",
        )
        .bind(self.organization().id)
        .fetch_one(&mut *transaction)
        .await?;
        if numbers.is_empty() {
            transaction.commit().await?;
            return Ok(Ok(()));
        }
        let refused: Option<String> =
            sqlx::query_scalar("SELECT reason FROM app.apply_directory_changes($1, $2::jsonb)")
                .bind(&self.database)
                .bind(news)
                .fetch_optional(&mut *ends.control)
                .await?;
        if let Some(reason) = refused {
            return Ok(Err(Failure::new(format!("directory sync failed: {reason}"))));
        }
        sqlx::query("SELECT app.delete_directory_changes($1)")
            .bind(&numbers)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Ok(()))
    }
}
