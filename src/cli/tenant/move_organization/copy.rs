//! Copies rows in batches along the primary key. Changes behind the current position are recorded
//! as pending changes and applied later.

use std::time::{Duration, Instant};

use pg::Client;

use super::{
    organization_move::{MoveConnections, OrganizationMove},
    users,
};
use crate::cli::{
    Failure,
    tenant::{
        locks::{AttemptError, begin_copying, retry_on_conflict},
        table_rows::TableRows,
    },
};

/// Rows per transaction.
const BATCH: i64 = 10_000;

/// How often progress is printed.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

impl OrganizationMove {
    /// Copies a table and continues after the last row at the target.
    pub(super) async fn copy(
        &self,
        connections: &mut MoveConnections<'_>,
        rows: &TableRows,
    ) -> Result<(), Failure> {
        let mut last = self.last(connections, rows).await?;
        let (mut count, mut reported) = (0, Instant::now());
        loop {
            let (copied, next) = retry_on_conflict(
                connections,
                &rows.table.name,
                async |connections: &mut MoveConnections<'_>| {
                    self.batch(connections, rows, last.as_deref()).await
                },
            )
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

    /// The key of the last row at the target, as SQL literals. `None` if another database may sort
    /// the key differently.
    async fn last(
        &self,
        connections: &mut MoveConnections<'_>,
        rows: &TableRows,
    ) -> pg::Result<Option<String>> {
        let is_between_databases = !matches!(connections, MoveConnections::Within(_));
        let target = connections.target();
        if is_between_databases && has_collation(target, rows).await? {
            return Ok(None);
        }
        let sql = format!(
            "SELECT {} FROM {} t WHERE t.{} = $1 ORDER BY {} LIMIT 1",
            constants(rows),
            self.target(&rows.table),
            rows.table.owner_column(),
            descending(rows)
        );
        target.query_opt(&sql, &[&self.organization.id]).await
    }

    /// Copies one batch. Returns how many rows it read and the key of the last. A row may conflict
    /// with one that was deleted at the source meanwhile: pending changes cover both.
    async fn batch(
        &self,
        connections: &mut MoveConnections<'_>,
        rows: &TableRows,
        last: Option<&str>,
    ) -> Result<(i64, Option<String>), AttemptError> {
        let (id, owner, columns) =
            (&self.organization.id, rows.table.owner_column(), rows.columns(""));
        let target = self.target(&rows.table);
        let after = last.map(|last| format!("AND ({}) > ({last})", rows.keys("s")));
        let batch = format!(
            "batch AS MATERIALIZED (SELECT s.* FROM {} s WHERE s.{owner} = $1 {} ORDER BY {} LIMIT $2)",
            self.source(&rows.table),
            after.unwrap_or_default(),
            rows.keys("s"),
        );
        let next = format!(
            "(SELECT {} FROM batch t ORDER BY {} LIMIT 1)",
            constants(rows),
            descending(rows)
        );
        if let MoveConnections::Within(control) = connections {
            let sql = format!(
                "WITH {batch}, copied AS (INSERT INTO {target} ({columns}) SELECT {columns} FROM batch ON CONFLICT DO NOTHING)
                 SELECT (SELECT count(*) FROM batch), {next}"
            );
            let transaction = begin_copying(control).await?;
            let copied = transaction.query_one(&sql, &[id, &BATCH]).await?;
            transaction.commit().await?;
            return Ok(copied);
        }
        let sql = format!(
            "WITH {batch} SELECT (SELECT coalesce(array_agg(b::text), '{{}}') FROM batch b), {next}"
        );
        let (content, next): (Vec<String>, Option<String>) =
            connections.source().query_one(&sql, &[id, &BATCH]).await?;
        if let MoveConnections::ToDedicated { control, dedicated } = connections {
            users::copy_missing(control, dedicated, rows, &content).await?;
        }
        let sql = format!(
            "INSERT INTO {target} ({columns}) SELECT {columns} FROM ({}) s WHERE s.{owner} = $1 ON CONFLICT DO NOTHING",
            rows.parsed(2),
        );
        let transaction = begin_copying(connections.target()).await?;
        transaction.execute(&sql, &[id, &content]).await?;
        transaction.commit().await?;
        Ok((i64::try_from(content.len()).unwrap_or(i64::MAX), next))
    }
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

fn constants(rows: &TableRows) -> String {
    let places = vec!["%L"; rows.table.key.split(", ").count()].join(", ");
    format!("format('{places}', {})", rows.keys("t"))
}

fn descending(rows: &TableRows) -> String {
    rows.keys("t").replace(", ", " DESC, ") + " DESC"
}
