//! Directory sync for one organization that returns to the control database. Servers do the same
//! for all organizations, continuously.

use pg::Client;

use crate::cli::{
    Failure,
    tenant::{locks::AttemptError, organization::Organization},
};

/// The lock that directory sync holds in the dedicated database.
pub(in crate::cli::tenant) const LOCK: &str = "hashtextextended('tenantry directory', 0)";

/// Copies all pending changes that are committed by now to the control database's directory.
/// `there` has a transaction.
pub(super) async fn sync_directory(
    control: &Client,
    there: &Client,
    organization: &Organization,
) -> Result<(), AttemptError> {
    let (numbers, changes): (Vec<i64>, String) = there
        .query_one(
            "WITH changes AS MATERIALIZED (
                 SELECT * FROM app.pending_directory_changes(2147483647) WHERE (change ->> 'organization')::uuid = $1)
             SELECT (SELECT coalesce(array_agg(number), '{}') FROM changes, unnest(numbers) number),
                    (SELECT coalesce(jsonb_agg(change), '[]')::text FROM changes)",
            &[&organization.id],
        )
        .await?;
    if numbers.is_empty() {
        return Ok(());
    }
    let refused: Option<String> = control
        .query_opt(
            "SELECT reason FROM app.apply_directory_changes($1, $2::jsonb)",
            &[&organization.placement.database(), &changes],
        )
        .await?;
    if let Some(reason) = refused {
        return Err(Failure::new(format!("directory sync failed: {reason}")).into());
    }
    there.execute("SELECT app.delete_directory_changes($1)", &[&numbers]).await?;
    Ok(())
}
