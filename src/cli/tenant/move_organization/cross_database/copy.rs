//! Copies rows from one database to the other in batches along the primary key. Changes behind the
//! current position are recorded.

use std::time::Instant;

use pg::Client;
use uuid::Uuid;

use super::{
    super::copy::{BATCH, PROGRESS_INTERVAL, constants, descending},
    cross_database_move::{CrossDatabaseMove, Endpoints},
    users,
};
use crate::cli::{
    Failure,
    tenant::{locks::retry_on_conflict, table_rows::TableRows},
};

impl CrossDatabaseMove {
    /// Copies a table and continues after the last row at the target.
    pub(super) async fn copy(
        &self,
        ends: &mut Endpoints<'_>,
        rows: &TableRows,
    ) -> Result<(), Failure> {
        let target = self.sides(ends).1;
        let mut last = if has_collation(target, rows).await? {
            None
        } else {
            self.move_organization.last(target, rows).await?
        };
        let (mut count, mut reported) = (0, Instant::now());
        loop {
            let (copied, next) =
                retry_on_conflict(ends, &rows.table.name, async |ends: &mut Endpoints<'_>| {
                    self.batch(ends, rows, last.as_deref()).await
                })
                .await?;
            count += copied;
            if copied < BATCH {
                eprintln!("{}: {count} rows copied", rows.table.name);
                return Ok(());
            }
            if reported.elapsed() > PROGRESS_INTERVAL {
                reported = Instant::now();
                eprintln!("{}: {count} rows so far", rows.table.name);
            }
            last = next;
        }
    }

    /// Copies one batch. Returns how many rows it read and the key of the last.
    async fn batch(
        &self,
        ends: &mut Endpoints<'_>,
        rows: &TableRows,
        last: Option<&str>,
    ) -> pg::Result<(i64, Option<String>)> {
        let after = last.map(|last| format!("AND ({}) > ({last})", rows.keys("s")));
        let sql = format!(
            "WITH batch AS MATERIALIZED (SELECT s.* FROM {} s WHERE s.{} = $1 {} ORDER BY {} LIMIT $2)
             SELECT (SELECT coalesce(array_agg(b::text), '{{}}') FROM batch b),
                    (SELECT {} FROM batch t ORDER BY {} LIMIT 1)",
            self.move_organization.source(&rows.table),
            rows.table.owner_column(),
            after.unwrap_or_default(),
            rows.keys("s"),
            constants(rows),
            descending(rows),
        );
        let (source, _) = self.sides(ends);
        let (batch, last): (Vec<String>, Option<String>) =
            source.query_one(&sql, &[&self.organization().id, &BATCH]).await?;
        if self.out {
            users::copy_missing(ends.control, ends.there, rows, &batch).await?;
        }
        let (_, target) = self.sides(ends);
        let transaction = target.begin().await?;
        transaction.batch("SET LOCAL app.replicating = 'on'").await?;
        insert(&transaction, rows, &batch, self.organization().id).await?;
        transaction.commit().await?;
        Ok((i64::try_from(batch.len()).unwrap_or(i64::MAX), last))
    }
}

/// Inserts rows. A row may conflict with one that was deleted at the source meanwhile: pending
/// changes cover both.
async fn insert(
    target: &Client,
    rows: &TableRows,
    batch: &[String],
    organization: Uuid,
) -> pg::Result<()> {
    let sql = format!(
        "INSERT INTO {} ({columns}) SELECT {columns} FROM ({}) s WHERE s.{} = $1 ON CONFLICT DO NOTHING",
        rows.table.name,
        rows.parsed(2),
        rows.table.owner_column(),
        columns = rows.columns(""),
    );
    target.execute(&sql, &[&organization, &batch]).await?;
    Ok(())
}

/// Whether the key has a collation, so that the other database may sort it differently.
async fn has_collation(connection: &Client, rows: &TableRows) -> pg::Result<bool> {
    connection
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                        WHERE i.indrelid = $1::regclass AND i.indisprimary AND a.attcollation <> 0)",
            &[&rows.table.name],
        )
        .await
}
