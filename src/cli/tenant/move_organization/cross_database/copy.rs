//! The copy, in batches along the primary key, each read here and written there. What changes
//! behind it was noted.

use std::time::Instant;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use super::{
    super::copy::{BATCH, TELL, constants, descending},
    CrossDatabaseMove, Endpoints, users,
};
use crate::cli::{
    Failure,
    tenant::{locks::with_timeout, tables::TableRows},
};

impl CrossDatabaseMove {
    /// Goes on after the last row that is there.
    pub(super) async fn copy(
        &self,
        ends: &mut Endpoints<'_>,
        rows: &TableRows,
    ) -> Result<(), Failure> {
        let target = self.sides(ends).1;
        let mut last = if collates(target, rows).await? {
            None
        } else {
            self.move_organization.last(target, rows).await?
        };
        let (mut count, mut told) = (0, Instant::now());
        loop {
            let (copied, next) =
                with_timeout(ends, rows.table.name, async |ends: &mut Endpoints<'_>| {
                    self.batch(ends, rows, last.as_deref()).await
                })
                .await?;
            count += copied;
            if copied < BATCH {
                eprintln!("{}: {count} rows copied", rows.table.name);
                return Ok(());
            }
            if told.elapsed() > TELL {
                told = Instant::now();
                eprintln!("{}: {count} rows so far", rows.table.name);
            }
            last = next;
        }
    }

    /// How many rows were looked at, and the key of the last.
    async fn batch(
        &self,
        ends: &mut Endpoints<'_>,
        rows: &TableRows,
        last: Option<&str>,
    ) -> Result<(i64, Option<String>), sqlx::Error> {
        let after = last.map(|last| format!("AND ({}) > ({last})", rows.keys("s")));
        let sql = format!(
            "WITH batch AS MATERIALIZED (SELECT s.* FROM {} s WHERE s.{} = $1 {} ORDER BY {} LIMIT $2)
             SELECT (SELECT coalesce(array_agg(b::text), '{{}}') FROM batch b),
                    (SELECT {} FROM batch t ORDER BY {} LIMIT 1)",
            self.move_organization.source(rows.table),
            rows.table.owner_column(),
            after.unwrap_or_default(),
            rows.keys("s"),
            constants(rows),
            descending(rows),
        );
        let (source, _) = self.sides(ends);
        let (batch, last): (Vec<String>, Option<String>) = sqlx::query_as(AssertSqlSafe(sql))
            .bind(self.organization().id)
            .bind(BATCH)
            .fetch_one(source)
            .await?;
        if self.out {
            users::copy_missing(ends, rows, &batch).await?;
        }
        let (_, target) = self.sides(ends);
        let mut transaction = target.begin().await?;
        transaction.execute("SET LOCAL app.copying = 'on'").await?;
        insert(&mut transaction, rows, &batch, self.organization().id).await?;
        transaction.commit().await?;
        Ok((i64::try_from(batch.len()).unwrap_or(i64::MAX), last))
    }
}

/// A row may be in the way of another, when one was taken away and the other made meanwhile: both
/// were noted.
async fn insert(
    target: &mut PgConnection,
    rows: &TableRows,
    batch: &[String],
    organization: Uuid,
) -> Result<(), sqlx::Error> {
    let sql = format!(
        "INSERT INTO {} ({columns}) SELECT {columns} FROM ({}) s WHERE s.{} = $1 ON CONFLICT DO NOTHING",
        rows.table.name,
        rows.copied(2),
        rows.table.owner_column(),
        columns = rows.columns(""),
    );
    sqlx::query(AssertSqlSafe(sql)).bind(organization).bind(batch).execute(target).await?;
    Ok(())
}

/// Whether the order of the keys may be another in the other database.
async fn collates(connection: &mut PgConnection, rows: &TableRows) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                        WHERE i.indrelid = $1::regclass AND i.indisprimary AND a.attcollation <> 0)",
    )
    .bind(rows.table.name)
    .fetch_one(connection)
    .await
}
