//! The directory of the control database, brought after what was written in the database of an
//! organization on its way home. Servers do the same for everybody, all the time.

use sqlx::Connection;

use super::{CrossDatabaseMove, Endpoints};
use crate::cli::Failure;

/// Held in the database by whoever brings the directory after.
pub(in crate::cli::tenant) const LOCK: &str = "hashtextextended('tenantry directory', 0)";

impl CrossDatabaseMove {
    /// All that was committed by now.
    pub(super) async fn sync_directory(
        &self,
        ends: &mut Endpoints<'_>,
    ) -> Result<Result<(), Failure>, sqlx::Error> {
        let mut transaction = ends.there.begin().await?;
        let (numbers, news): (Vec<i64>, String) = sqlx::query_as(
            "WITH news AS MATERIALIZED (
                 SELECT * FROM app.directory_news(2147483647) WHERE (news ->> 'organization')::uuid = $1)
             SELECT (SELECT coalesce(array_agg(number), '{}') FROM news, unnest(numbers) number),
                    (SELECT coalesce(jsonb_agg(news), '[]')::text FROM news)",
        )
        .bind(self.organization().id)
        .fetch_one(&mut *transaction)
        .await?;
        if numbers.is_empty() {
            transaction.commit().await?;
            return Ok(Ok(()));
        }
        let refused: Option<String> =
            sqlx::query_scalar("SELECT reason FROM app.follow_directory($1, $2::jsonb)")
                .bind(&self.database)
                .bind(news)
                .fetch_optional(&mut *ends.control)
                .await?;
        if let Some(reason) = refused {
            return Ok(Err(Failure::new(format!(
                "the directory cannot be brought after: {reason}"
            ))));
        }
        sqlx::query("SELECT app.directory_followed($1)")
            .bind(&numbers)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Ok(()))
    }
}
