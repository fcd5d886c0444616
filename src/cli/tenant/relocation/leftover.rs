//! Copies that are not, or no more, the truth, and how they go. Only whoever is the mover of the organization may delete them.

use migration::placement;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::super::{
    patience::{exclude_maintenance, outlive, patiently},
    place::{Home, Organization},
    rows::Rows,
};
use crate::cli::Failure;

/// Rows of a transaction.
const BATCH: i64 = 10_000;

/// Waits until no request is left that began when the copy was the truth: names lead to tables as they are, not as they were in its
/// snapshot.
async fn wait_for_readers(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let condition = "l.locktype = 'virtualxid' AND a.usename = 'tenantry_app'";
    outlive(connection, "requests that began before", condition, &[]).await
}

/// Deletes what the organization has at `old`, where it does not live, and notes that it is gone.
pub(in crate::cli::tenant) async fn remove(
    connection: &mut PgConnection,
    organization: &Organization,
    old: Home,
) -> Result<(), Failure> {
    if old == Home::Schema {
        wait_for_readers(connection).await?;
    } else {
        for rows in Rows::of_all(connection).await?.iter().rev() {
            if !rows.table.mirrored {
                purge(connection, organization, rows).await?;
            }
        }
    }
    patiently(connection, "deleting the copy", async |connection| {
        let mut transaction = connection.begin().await?;
        exclude_maintenance(&mut transaction).await?;
        let removed = sqlx::query(
            "UPDATE app.placements SET old_home = NULL, keep_old_until = NULL,
                    version = CASE WHEN $2 = 'shared' THEN version END
             WHERE organization_id = $1 AND home <> $2",
        )
        .bind(organization.id)
        .bind(old.name())
        .execute(&mut *transaction)
        .await?;
        // Whoever lives there is safe from us.
        if old == Home::Schema && removed.rows_affected() == 1 {
            placement::remove(&mut transaction, organization.id).await?;
        }
        transaction.commit().await
    })
    .await
}

/// Deletes the organization's rows of a shared table, as long as it lives elsewhere.
async fn purge(
    connection: &mut PgConnection,
    organization: &Organization,
    rows: &Rows,
) -> Result<(), Failure> {
    let (name, owner) = (rows.table.name, rows.table.owner_column());
    let sql = format!(
        "DELETE FROM {name} t USING (SELECT {} FROM {name} o WHERE o.{owner} = $1 ORDER BY {} LIMIT $2) k
         WHERE {} AND EXISTS (SELECT FROM app.placements WHERE organization_id = $1 AND home = 'schema')",
        rows.keys("o"),
        rows.keys("o"),
        rows.same("t", "k"),
    );
    loop {
        let deleted = sqlx::query(AssertSqlSafe(sql.clone()))
            .bind(organization.id)
            .bind(BATCH)
            .execute(&mut *connection)
            .await?;
        if deleted.rows_affected() < BATCH.unsigned_abs() {
            return Ok(());
        }
    }
}
