//! Deletes stale copies. Only the command that holds the organization's move lock may do so.

use migration::placement;
use pg::Client;

use super::super::{
    locks::{begin_copying, exclusively, wait_for_older_transactions},
    organization::Organization,
    placement::Placement,
    table_rows::TableRows,
};
use crate::cli::Failure;

/// Rows per transaction.
const BATCH: i64 = 10_000;

/// Waits for requests that began before the switch. Their snapshots still show the old placement,
/// but table names resolve to the current tables, so a dropped schema would fail them.
async fn wait_for_readers(connection: &Client) -> pg::Result<()> {
    let condition = "l.locktype = 'virtualxid' AND a.usename = 'tenantry_app'";
    wait_for_older_transactions(connection, "requests that began before", condition, &[]).await
}

/// Deletes the organization's rows at `old`, which must not be its placement, and records that the
/// copy is gone. `there` is the connection to the dedicated database, if `old` is one.
pub(in crate::cli::tenant) async fn remove(
    connection: &mut Client,
    there: Option<&mut Client>,
    organization: &Organization,
    old: &Placement,
) -> Result<(), Failure> {
    match (old, there) {
        (Placement::Schema, _) => wait_for_readers(connection).await?,
        (Placement::Database(name), Some(there)) => {
            let now = Organization::get(connection, organization.id).await?;
            if now.placement == *old {
                return Err(Failure::new(format!("{} lives in the database {name}", now.name)));
            }
            remove_there(there, organization).await?;
        }
        (Placement::Database(name), None) => {
            return Err(Failure::new(format!(
                "the stale copy in the database {name} remains until `tenantry tenant prune` can reach that database"
            )));
        }
        _ => {
            for rows in TableRows::of_all(connection).await?.iter().rev() {
                if !rows.table.mirrored {
                    purge(connection, organization, rows).await?;
                }
            }
        }
    }
    exclusively(connection, "deleting the stale copy", None, async |connection| {
        let removed = connection
            .execute(
                "UPDATE app.placements SET old_placement = NULL, keep_old_until = NULL,
                    version = CASE WHEN $2 <> 'schema' THEN version END
                 WHERE organization_id = $1 AND placement <> $2",
                &[&organization.id, &old.name()],
            )
            .await?;
        // Only if the organization does not live in the schema.
        if *old == Placement::Schema && removed == 1 {
            placement::remove(connection, organization.id).await?;
        }
        Ok(())
    })
    .await
}

/// Deletes all rows of the organization in a dedicated database, except for users, and last its
/// placement. The caller holds the move lock in the control database and knows from there that the
/// organization lives elsewhere. The placement in this database may be outdated.
async fn remove_there(there: &mut Client, organization: &Organization) -> Result<(), Failure> {
    for rows in TableRows::of_all(there).await?.iter().rev() {
        purge(there, organization, rows).await?;
    }
    exclusively(there, "deleting the stale copy", None, async |there| {
        for table in ["app.organization_slugs", "app.pending_changes", "app.placements"] {
            let sql = format!("DELETE FROM {table} t WHERE t.organization_id = $1 AND {NOT_HERE}");
            there.execute(&sql, &[&organization.id]).await?;
        }
        Ok(())
    })
    .await
}

const NOT_HERE: &str = "EXISTS (SELECT FROM app.placements p WHERE p.organization_id = $1 AND p.placement <> 'shared')";

/// Deletes the organization's rows of a shared table, as long as it lives elsewhere.
async fn purge(
    connection: &mut Client,
    organization: &Organization,
    rows: &TableRows,
) -> Result<(), Failure> {
    let (name, owner) = (&rows.table.name, rows.table.owner_column());
    let sql = format!(
        "DELETE FROM {name} t USING (SELECT {} FROM {name} o WHERE o.{owner} = $1 ORDER BY {} LIMIT $2) k
         WHERE {} AND {NOT_HERE}",
        rows.keys("o"),
        rows.keys("o"),
        rows.same("t", "k"),
    );
    loop {
        let transaction = begin_copying(connection).await?;
        let deleted = transaction.execute(&sql, &[&organization.id, &BATCH]).await?;
        transaction.commit().await?;
        if deleted < BATCH.unsigned_abs() {
            return Ok(());
        }
    }
}
