//! Directory sync for one organization that returns to the control database. Servers do the same
//! for all organizations, continuously.

use pg::Client;

use super::cross_database_move::CrossDatabaseMove;
use crate::cli::Failure;

/// The lock that directory sync holds in the dedicated database.
pub(in crate::cli::tenant) const LOCK: &str = "hashtextextended('tenantry directory', 0)";

impl CrossDatabaseMove {
    /// Copies all pending changes that are committed by now to the control database's directory.
    /// `there` has a transaction.
    pub(super) async fn sync_directory(
        &self,
        control: &Client,
        there: &Client,
    ) -> pg::Result<Result<(), Failure>> {
        let (numbers, news): (Vec<i64>, String) = there
            .query_one(
                "WITH changes AS MATERIALIZED (
                 SELECT * FROM app.pending_directory_changes(2147483647) WHERE (change ->> 'organization')::uuid = $1)
             SELECT (SELECT coalesce(array_agg(number), '{}') FROM changes, unnest(numbers) number),
                    (SELECT coalesce(jsonb_agg(change), '[]')::text FROM changes)",
                &[&self.organization().id],
            )
            .await?;
        if numbers.is_empty() {
            return Ok(Ok(()));
        }
        let refused: Option<String> = control
            .query_opt(
                "SELECT reason FROM app.apply_directory_changes($1, $2::jsonb)",
                &[&self.database, &news],
            )
            .await?;
        if let Some(reason) = refused {
            return Ok(Err(Failure::new(format!("directory sync failed: {reason}"))));
        }
        there.execute("SELECT app.delete_directory_changes($1)", &[&numbers]).await?;
        Ok(Ok(()))
    }
}
