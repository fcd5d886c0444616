//! Applies pending changes to the copy: reads the changed rows in one snapshot of the source,
//! writes them in one transaction at the target, and only then deletes the changes. Applying them
//! twice is harmless. A row that changes meanwhile is recorded again, for the next round.

use pg::Client;
use uuid::Uuid;

use super::{
    directory_sync::sync_directory,
    organization_move::{Ends, OrganizationMove, Route},
    users,
};
use crate::cli::{
    Failure,
    tenant::{
        locks::{Attempt, begin_copying, begin_snapshot, retry_on_conflict},
        table_rows::TableRows,
    },
};

/// Changes per round.
const BATCH: i64 = 10_000;

/// The number of pending changes that may be left to the switch.
const FEW: usize = 200;

/// The changed rows of a table.
pub(super) struct Changed<'rows> {
    pub(super) rows: &'rows TableRows,
    /// The keys as JSON.
    keys: String,
    /// The rows as they are now, without deleted ones.
    pub(super) content: Vec<String>,
}

impl OrganizationMove {
    /// Applies pending changes until few are left.
    pub(super) async fn catch_up(&self, ends: &mut Ends<'_>) -> Result<(), Failure> {
        loop {
            let changes =
                retry_on_conflict(ends, "applying changes", async |ends: &mut Ends<'_>| {
                    self.apply_changes(ends).await
                })
                .await?;
            if changes > 0 {
                eprintln!("applied {changes} pending changes");
            }
            if changes <= FEW {
                return Ok(());
            }
        }
    }

    /// Applies one round. Returns how many changes it had.
    async fn apply_changes(&self, ends: &mut Ends<'_>) -> Result<usize, Attempt> {
        let snapshot = begin_snapshot(self.source_of(ends)).await?;
        let (numbers, mut changed) = self.read_changes(&snapshot).await?;
        snapshot.commit().await?;
        match (self.route(), ends.both()) {
            (Route::Back, Some((control, there))) => {
                // Directory sync has all changes that were recorded until now, and more.
                let transaction = there.begin().await?;
                sync_directory(control, &transaction, &self.organization).await?;
                transaction.commit().await?;
            }
            (Route::Out, Some((control, there))) => {
                for one in &changed {
                    users::copy_missing(control, there, one.rows, &one.content).await?;
                }
            }
            _ => {}
        }
        // Writers may change mirrored rows at the same time, so the switch compares them.
        changed.retain(|one| self.copies(one.rows));
        let transaction = begin_copying(self.target_of(ends)).await?;
        self.write_changes(&transaction, &changed).await?;
        transaction.commit().await?;
        self.source_of(ends)
            .execute(
                "DELETE FROM app.pending_changes WHERE organization_id = $1 AND number = ANY ($2)",
                &[&self.organization.id, &numbers],
            )
            .await?;
        Ok(numbers.len())
    }

    /// Returns the numbers of pending changes and the current rows of the source, parents first.
    pub(super) async fn read_changes(
        &self,
        source: &Client,
    ) -> pg::Result<(Vec<i64>, Vec<Changed<'_>>)> {
        let id = self.organization.id;
        let (numbers, tables) = seen(source, id).await?;
        let mut changed = Vec::new();
        for rows in &self.rows {
            if !tables.iter().any(|name| name == rows.table.base_name()) {
                continue;
            }
            let keys: String = source
                .query_one(
                    "SELECT coalesce(jsonb_agg(DISTINCT key), '[]')::text FROM app.pending_changes
                     WHERE organization_id = $1 AND number = ANY ($2) AND table_name = $3",
                    &[&id, &numbers, &rows.table.base_name()],
                )
                .await?;
            let sql = format!(
                "SELECT coalesce(array_agg(s::text), '{{}}') FROM {} s JOIN ({}) k ON {} WHERE s.{} = $1",
                self.source(&rows.table),
                rows.keyed(2),
                rows.same("s", "k"),
                rows.table.owner_column(),
            );
            let content = source.query_one(&sql, &[&id, &keys]).await?;
            changed.push(Changed { rows, keys, content });
        }
        Ok((numbers, changed))
    }

    /// Writes changes, and checks that the target has them. `target` has a transaction that copies.
    pub(super) async fn write_changes(
        &self,
        target: &Client,
        changed: &[Changed<'_>],
    ) -> Result<(), Attempt> {
        for one in changed.iter().rev() {
            self.execute(target, one, &self.deletion(one.rows)).await?;
        }
        for one in changed {
            // Updates first: they may free a unique key, such as that of a revoked invitation.
            self.execute(target, one, &self.update(one.rows)).await?;
            self.execute(target, one, &self.insertion(one.rows)).await?;
        }
        self.check_changes(target, changed).await
    }

    /// Checks that the target has the changed rows.
    pub(super) async fn check_changes(
        &self,
        target: &Client,
        changed: &[Changed<'_>],
    ) -> Result<(), Attempt> {
        let mut faults = Vec::new();
        for one in changed {
            let sql = format!(
                "WITH here AS (SELECT v AS content FROM unnest($3::text[]) v),
                      there AS (SELECT t::text AS content FROM {} t JOIN ({}) k ON {} WHERE t.{} = $1)
                 SELECT EXISTS (SELECT * FROM here EXCEPT ALL SELECT * FROM there)
                     OR EXISTS (SELECT * FROM there EXCEPT ALL SELECT * FROM here)",
                self.target(&one.rows.table),
                one.rows.keyed(2),
                one.rows.same("t", "k"),
                one.rows.table.owner_column(),
            );
            let Changed { keys, content, .. } = one;
            let differs: bool =
                target.query_one(&sql, &[&self.organization.id, keys, content]).await?;
            if differs {
                faults.push(one.rows.table.name.clone());
            }
        }
        Ok(check(&faults)?)
    }

    async fn execute(&self, target: &Client, one: &Changed<'_>, sql: &str) -> pg::Result<()> {
        target.execute(sql, &[&self.organization.id, &one.keys, &one.content]).await?;
        Ok(())
    }

    /// $1 is the organization, $2 the keys, $3 the rows.
    fn deletion(&self, rows: &TableRows) -> String {
        // EXCEPT, because for NOT EXISTS PostgreSQL underestimates both sets and would parse all
        // rows again for each key.
        format!(
            "DELETE FROM {} t USING ({} EXCEPT SELECT {} FROM ({}) s) k WHERE {} AND t.{} = $1",
            self.target(&rows.table),
            rows.keyed(2),
            rows.keys("s"),
            rows.parsed(3),
            rows.same("t", "k"),
            rows.table.owner_column(),
        )
    }

    fn update(&self, rows: &TableRows) -> String {
        format!(
            "UPDATE {} t SET ({}) = ROW({}) FROM ({}) s WHERE {} AND t.{} = $1 AND $2::text IS NOT NULL",
            self.target(&rows.table),
            rows.columns(""),
            rows.columns("s"),
            rows.parsed(3),
            rows.same("t", "s"),
            rows.table.owner_column(),
        )
    }

    fn insertion(&self, rows: &TableRows) -> String {
        format!(
            "INSERT INTO {target} ({}) SELECT {} FROM ({}) s
             WHERE s.{} = $1 AND $2::text IS NOT NULL AND NOT EXISTS (SELECT FROM {target} t WHERE {})",
            rows.columns(""),
            rows.columns("s"),
            rows.parsed(3),
            rows.table.owner_column(),
            rows.same("t", "s"),
            target = self.target(&rows.table),
        )
    }
}

/// Returns the numbers of a round's changes and the names of their tables.
async fn seen(connection: &Client, organization: Uuid) -> pg::Result<(Vec<i64>, Vec<String>)> {
    // Numbers do not follow the order of commits, so a round is a set of numbers, not a range.
    connection
        .query_one(
            "SELECT coalesce(array_agg(number), '{}'), coalesce(array_agg(DISTINCT table_name), '{}')
         FROM (SELECT number, table_name FROM app.pending_changes WHERE organization_id = $1 ORDER BY number LIMIT $2) seen",
            &[&organization, &BATCH],
        )
        .await
}

/// Prevents a switch to a copy that differs.
pub(super) fn check(faults: &[String]) -> Result<(), Failure> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the copy differs in {}. The organization stays where it is: cancel the move, and run `tenantry tenant verify`.",
        faults.join(", ")
    )))
}
