//! Copies rows in batches along the primary key. Changes behind the current position are recorded
//! as pending changes and applied later.

use std::time::{Duration, Instant};

use pg::Client;

use super::organization_move::OrganizationMove;
use crate::cli::{
    Failure,
    tenant::{locks::retry_on_conflict, table_rows::TableRows},
};

/// Rows per transaction.
pub(super) const BATCH: i64 = 10_000;

/// How often progress is printed.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

impl OrganizationMove {
    /// Copies a table and continues after the last row at the target.
    pub(super) async fn copy(
        &self,
        connection: &mut Client,
        rows: &TableRows,
    ) -> Result<(), Failure> {
        let mut last = self.last(connection, rows).await?;
        let (mut count, mut reported) = (0, Instant::now());
        loop {
            let (copied, next) =
                retry_on_conflict(connection, &rows.table.name, async |connection| {
                    self.batch(connection, rows, last.as_deref()).await
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

    /// The key of the last row at the target, as SQL literals.
    pub(super) async fn last(
        &self,
        connection: &Client,
        rows: &TableRows,
    ) -> pg::Result<Option<String>> {
        let sql = format!(
            "SELECT {} FROM {} t WHERE t.{} = $1 ORDER BY {} LIMIT 1",
            constants(rows),
            self.target(&rows.table),
            rows.table.owner_column(),
            descending(rows)
        );
        connection.query_opt(&sql, &[&self.organization.id]).await
    }

    /// Copies one batch. Returns how many rows it read and the key of the last. A row may conflict
    /// with one that was deleted at the source meanwhile: pending changes cover both.
    async fn batch(
        &self,
        connection: &mut Client,
        rows: &TableRows,
        last: Option<&str>,
    ) -> pg::Result<(i64, Option<String>)> {
        let after = last.map(|last| format!("AND ({}) > ({last})", rows.keys("s")));
        let sql = format!(
            "WITH batch AS MATERIALIZED (
                 SELECT {columns} FROM {source} s WHERE s.{owner} = $1 {after} ORDER BY {ascending} LIMIT $2),
             copied AS (INSERT INTO {target} ({bare}) SELECT {bare} FROM batch ON CONFLICT DO NOTHING)
             SELECT (SELECT count(*) FROM batch), (SELECT {constants} FROM batch t ORDER BY {descending} LIMIT 1)",
            columns = rows.columns("s"),
            source = self.source(&rows.table),
            owner = rows.table.owner_column(),
            after = after.unwrap_or_default(),
            ascending = rows.keys("s"),
            target = self.target(&rows.table),
            bare = rows.columns(""),
            constants = constants(rows),
            descending = descending(rows),
        );
        let transaction = connection.begin().await?;
        transaction.batch("SET LOCAL app.replicating = 'on'").await?;
        let batch = transaction.query_one(&sql, &[&self.organization.id, &BATCH]).await?;
        transaction.commit().await?;
        Ok(batch)
    }
}

pub(super) fn constants(rows: &TableRows) -> String {
    let places = vec!["%L"; rows.table.key.split(", ").count()].join(", ");
    format!("format('{places}', {})", rows.keys("t"))
}

pub(super) fn descending(rows: &TableRows) -> String {
    rows.keys("t").replace(", ", " DESC, ") + " DESC"
}
