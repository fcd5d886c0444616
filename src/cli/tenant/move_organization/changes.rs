//! Applies pending changes to the copy: reads the changed rows in one snapshot of the source,
//! writes them in one transaction at the target, and only then deletes the changes. Applying them
//! twice is harmless. A row that changes meanwhile is recorded again, for the next round.
//!
//! The writing transaction sees current rows, so a parent that was deleted after the snapshot fails
//! it with a foreign key violation, and the round is repeated.

use pg::Client;

use super::{
    directory_sync::sync_directory,
    organization_move::{MoveConnections, OrganizationMove},
    users,
};
use crate::cli::{
    Failure,
    tenant::{
        locks::{AttemptError, begin_copying, begin_snapshot, retry_on_conflict},
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
    /// The rows at the source, without deleted ones. `None` if they were not read: the source is in
    /// the database of the target.
    content: Option<Vec<String>>,
}

impl Changed<'_> {
    /// Copies the users that the rows refer to.
    pub(super) async fn copy_users(&self, control: &Client, there: &Client) -> pg::Result<()> {
        let content = self.content.as_deref().unwrap_or_default();
        users::copy_missing(control, there, self.rows, content).await
    }
}

impl OrganizationMove {
    /// Applies pending changes until few are left.
    pub(super) async fn catch_up(
        &self,
        connections: &mut MoveConnections<'_>,
    ) -> Result<(), Failure> {
        loop {
            let changes = retry_on_conflict(
                connections,
                "applying changes",
                async |connections: &mut MoveConnections<'_>| self.apply_changes(connections).await,
            )
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
    async fn apply_changes(
        &self,
        connections: &mut MoveConnections<'_>,
    ) -> Result<usize, AttemptError> {
        let snapshot = begin_snapshot(connections.source()).await?;
        let (numbers, mut changed) = self.read_changes(&snapshot).await?;
        snapshot.commit().await?;
        match connections {
            MoveConnections::FromDedicated { control, dedicated } => {
                // Directory sync has all changes that were recorded until now, and more.
                let transaction = dedicated.begin().await?;
                sync_directory(control, &transaction, &self.organization).await?;
                transaction.commit().await?;
            }
            MoveConnections::ToDedicated { control, dedicated } => {
                for one in &changed {
                    one.copy_users(control, dedicated).await?;
                }
            }
            MoveConnections::Within(_) => {}
        }
        // Writers may change mirrored rows at the same time, so the switch compares them.
        changed.retain(|one| self.copies(one.rows));
        let transaction = begin_copying(connections.target()).await?;
        self.write_changes(&transaction, &changed).await?;
        transaction.commit().await?;
        connections
            .source()
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
        let (numbers, mut changed) = self.changed_keys(source).await?;
        for one in &mut changed {
            let rows = one.rows;
            let sql = format!(
                "SELECT coalesce(array_agg(s::text), '{{}}') FROM {} s JOIN ({}) k ON {} WHERE s.{} = $1",
                self.source(&rows.table),
                rows.keyed(2),
                rows.same("s", "k"),
                rows.table.owner_column(),
            );
            one.content = Some(source.query_one(&sql, &[&self.organization.id, &one.keys]).await?);
        }
        Ok((numbers, changed))
    }

    /// The same without the rows.
    pub(super) async fn changed_keys(
        &self,
        source: &Client,
    ) -> pg::Result<(Vec<i64>, Vec<Changed<'_>>)> {
        // Numbers do not follow the order of commits, so a round is a set of numbers, not a range.
        let tables: Vec<(String, Vec<i64>, String)> = source
            .query(
                "SELECT table_name, array_agg(number), jsonb_agg(DISTINCT key)::text
                 FROM (SELECT table_name, number, key FROM app.pending_changes
                       WHERE organization_id = $1 ORDER BY number LIMIT $2) seen
                 GROUP BY table_name",
                &[&self.organization.id, &BATCH],
            )
            .await?;
        let changed = self.rows.iter().filter_map(|rows| {
            let (.., keys) = tables.iter().find(|(name, ..)| name == rows.table.base_name())?;
            Some(Changed { rows, keys: keys.clone(), content: None })
        });
        let changed = changed.collect();
        Ok((tables.into_iter().flat_map(|(_, numbers, _)| numbers).collect(), changed))
    }

    /// Writes changes, and checks that the target has them. `target` has a transaction that copies.
    pub(super) async fn write_changes(
        &self,
        target: &Client,
        changed: &[Changed<'_>],
    ) -> Result<(), AttemptError> {
        for one in changed.iter().rev() {
            self.execute(target, one, &self.deletion(one)).await?;
        }
        for one in changed {
            // Updates first: they may free a unique key, such as that of a revoked invitation.
            self.execute(target, one, &self.update(one)).await?;
            self.execute(target, one, &self.insertion(one)).await?;
        }
        self.check_changes(target, changed).await
    }

    /// Checks that the target has the changed rows.
    pub(super) async fn check_changes(
        &self,
        target: &Client,
        changed: &[Changed<'_>],
    ) -> Result<(), AttemptError> {
        let mut faults = Vec::new();
        for one in changed {
            let sql = format!(
                "WITH here AS (SELECT {} FROM ({}) s),
                      there AS (SELECT {} FROM {} t JOIN ({}) k ON {} WHERE t.{} = $1)
                 SELECT EXISTS (SELECT * FROM here EXCEPT ALL SELECT * FROM there)
                     OR EXISTS (SELECT * FROM there EXCEPT ALL SELECT * FROM here)",
                one.rows.text("s"),
                self.current(one),
                one.rows.text("t"),
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

    /// The changed rows at the source. $1 is the organization, $2 the keys, $3 the content.
    fn current(&self, one: &Changed<'_>) -> String {
        let rows = one.rows;
        if one.content.is_some() {
            return rows.parsed(3);
        }
        format!(
            "SELECT {} FROM {} s JOIN ({}) k ON {} WHERE s.{} = $1 AND $3::text[] IS NULL",
            rows.columns("s"),
            self.source(&rows.table),
            rows.keyed(2),
            rows.same("s", "k"),
            rows.table.owner_column(),
        )
    }

    fn deletion(&self, one: &Changed<'_>) -> String {
        let rows = one.rows;
        // EXCEPT, because for NOT EXISTS PostgreSQL underestimates both sets and would parse all
        // rows again for each key.
        format!(
            "DELETE FROM {} t USING ({} EXCEPT SELECT {} FROM ({}) s) k WHERE {} AND t.{} = $1",
            self.target(&rows.table),
            rows.keyed(2),
            rows.keys("s"),
            self.current(one),
            rows.same("t", "k"),
            rows.table.owner_column(),
        )
    }

    fn update(&self, one: &Changed<'_>) -> String {
        let rows = one.rows;
        format!(
            "UPDATE {} t SET ({}) = ROW({}) FROM ({}) s WHERE {} AND t.{} = $1 AND $2::text IS NOT NULL",
            self.target(&rows.table),
            rows.columns(""),
            rows.columns("s"),
            self.current(one),
            rows.same("t", "s"),
            rows.table.owner_column(),
        )
    }

    fn insertion(&self, one: &Changed<'_>) -> String {
        let rows = one.rows;
        format!(
            "INSERT INTO {target} ({}) SELECT {} FROM ({}) s
             WHERE s.{} = $1 AND $2::text IS NOT NULL AND NOT EXISTS (SELECT FROM {target} t WHERE {})",
            rows.columns(""),
            rows.columns("s"),
            self.current(one),
            rows.table.owner_column(),
            rows.same("t", "s"),
            target = self.target(&rows.table),
        )
    }
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
