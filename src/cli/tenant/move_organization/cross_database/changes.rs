//! Applies pending changes across databases: reads them in one snapshot of the source, writes them
//! in one transaction of the target, and only then deletes them. Applying them twice is harmless.

use pg::Client;

use super::{
    super::changes::{FEW, check, seen},
    cross_database_move::{CrossDatabaseMove, Endpoints},
    users,
};
use crate::cli::{
    Failure,
    tenant::{locks::retry_on_conflict, table_rows::TableRows},
};

/// The changed rows of a table.
pub(super) struct Changed<'rows> {
    pub(super) rows: &'rows TableRows,
    /// The keys as JSON.
    keys: String,
    /// The rows as they are now, without deleted ones.
    pub(super) content: Vec<String>,
}

impl CrossDatabaseMove {
    /// Applies pending changes until few are left.
    pub(super) async fn catch_up(&self, ends: &mut Endpoints<'_>) -> Result<(), Failure> {
        loop {
            let round =
                retry_on_conflict(ends, "applying changes", async |ends: &mut Endpoints<'_>| {
                    self.round(ends).await
                });
            let changes = round.await??;
            if changes > 0 {
                eprintln!("applied {changes} pending changes");
            }
            if changes <= FEW {
                return Ok(());
            }
        }
    }

    async fn round(&self, ends: &mut Endpoints<'_>) -> pg::Result<Result<i64, Failure>> {
        let (source, _) = self.sides(ends);
        let snapshot = source.begin().await?;
        snapshot.batch("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        let (numbers, changed) = self.read_changes(&snapshot).await?;
        snapshot.commit().await?;
        if !self.out {
            // Directory sync has all changes that were recorded until now, and more.
            let transaction = ends.there.begin().await?;
            let synced = self.sync_directory(ends.control, &transaction).await?;
            transaction.commit().await?;
            if let Err(failure) = synced {
                return Ok(Err(failure));
            }
        }
        let copied: Vec<_> =
            changed.into_iter().filter(|one| self.out || !one.rows.table.mirrored).collect();
        if self.out {
            for one in &copied {
                users::copy_missing(ends.control, ends.there, one.rows, &one.content).await?;
            }
        }
        let (source, target) = self.sides(ends);
        let transaction = target.begin().await?;
        let faults = self.write_changes(&transaction, &copied).await?;
        transaction.commit().await?;
        if let Err(failure) = check(&faults) {
            return Ok(Err(failure));
        }
        source
            .execute(
                "DELETE FROM app.pending_changes WHERE organization_id = $1 AND number = ANY ($2)",
                &[&self.organization().id, &numbers],
            )
            .await?;
        Ok(Ok(i64::try_from(numbers.len()).unwrap_or(i64::MAX)))
    }

    /// Returns the numbers of pending changes and the current rows of the source, parents first.
    pub(super) async fn read_changes(
        &self,
        source: &Client,
    ) -> pg::Result<(Vec<i64>, Vec<Changed<'_>>)> {
        let (numbers, tables) = seen(source, self.organization().id).await?;
        let mut changed = Vec::new();
        for rows in &self.move_organization.rows {
            if !tables.iter().any(|name| name == rows.table.base_name()) {
                continue;
            }
            let keys: String = source
                .query_one(
                    "SELECT coalesce(jsonb_agg(DISTINCT key), '[]')::text FROM app.pending_changes
                 WHERE organization_id = $1 AND number = ANY ($2) AND table_name = $3",
                    &[&self.organization().id, &numbers, &rows.table.base_name()],
                )
                .await?;
            let sql = format!(
                "SELECT coalesce(array_agg(s::text), '{{}}') FROM {} s JOIN ({}) k ON {} WHERE s.{} = $1",
                self.move_organization.source(&rows.table),
                rows.keyed(2),
                rows.same("s", "k"),
                rows.table.owner_column(),
            );
            let content = source.query_one(&sql, &[&self.organization().id, &keys]).await?;
            changed.push(Changed { rows, keys, content });
        }
        Ok((numbers, changed))
    }

    /// Writes changes. Returns the tables in which a row differs afterwards.
    pub(super) async fn write_changes(
        &self,
        target: &Client,
        changed: &[Changed<'_>],
    ) -> pg::Result<Vec<String>> {
        target.batch("SET LOCAL app.replicating = 'on'").await?;
        for one in changed.iter().rev() {
            self.execute(target, one, &deletion(one.rows)).await?;
        }
        for one in changed {
            // Updates first: they may free a unique key, such as that of a revoked invitation.
            self.execute(target, one, &update(one.rows)).await?;
            self.execute(target, one, &insertion(one.rows)).await?;
        }
        self.differing(target, changed).await
    }

    /// Returns the tables in which the changed rows differ.
    pub(super) async fn differing(
        &self,
        target: &Client,
        changed: &[Changed<'_>],
    ) -> pg::Result<Vec<String>> {
        let mut faults = Vec::new();
        for one in changed {
            let sql = format!(
                "WITH here AS (SELECT v AS content FROM unnest($3::text[]) v),
                      there AS (SELECT t::text AS content FROM {} t JOIN ({}) k ON {} WHERE t.{} = $1)
                 SELECT EXISTS (SELECT * FROM here EXCEPT ALL SELECT * FROM there)
                     OR EXISTS (SELECT * FROM there EXCEPT ALL SELECT * FROM here)",
                one.rows.table.name,
                one.rows.keyed(2),
                one.rows.same("t", "k"),
                one.rows.table.owner_column(),
            );
            let differs: bool =
                target.query_one(&sql, &[&self.organization().id, &one.keys, &one.content]).await?;
            if differs {
                faults.push(one.rows.table.name.clone());
            }
        }
        Ok(faults)
    }

    async fn execute(&self, target: &Client, one: &Changed<'_>, sql: &str) -> pg::Result<()> {
        target.execute(sql, &[&self.organization().id, &one.keys, &one.content]).await?;
        Ok(())
    }
}

/// $1 is the organization, $2 the keys, $3 the rows.
fn deletion(rows: &TableRows) -> String {
    // EXCEPT, because for NOT EXISTS PostgreSQL underestimates both sets and would parse all rows
    // again for each key.
    format!(
        "DELETE FROM {} t USING ({} EXCEPT SELECT {} FROM ({}) s) k WHERE {} AND t.{} = $1",
        rows.table.name,
        rows.keyed(2),
        rows.keys("s"),
        rows.parsed(3),
        rows.same("t", "k"),
        rows.table.owner_column(),
    )
}

fn update(rows: &TableRows) -> String {
    format!(
        "UPDATE {} t SET ({}) = ROW({}) FROM ({}) s WHERE {} AND t.{} = $1 AND $2::text IS NOT NULL",
        rows.table.name,
        rows.columns(""),
        rows.columns("s"),
        rows.parsed(3),
        rows.same("t", "s"),
        rows.table.owner_column(),
    )
}

fn insertion(rows: &TableRows) -> String {
    format!(
        "INSERT INTO {table} ({columns}) SELECT {} FROM ({}) s
         WHERE s.{} = $1 AND $2::text IS NOT NULL AND NOT EXISTS (SELECT FROM {table} t WHERE {})",
        rows.columns("s"),
        rows.parsed(3),
        rows.table.owner_column(),
        rows.same("t", "s"),
        table = rows.table.name,
        columns = rows.columns(""),
    )
}
