//! Applies pending changes to the copy: each recorded key gets the row that the source has now.

use pg::Client;
use uuid::Uuid;

use super::organization_move::OrganizationMove;
use crate::cli::{
    Failure,
    tenant::{locks::retry_on_conflict, table_rows::TableRows},
};

/// Changes per round.
const BATCH: i64 = 10_000;

/// The number of pending changes that may be left to the switch.
pub(super) const FEW: i64 = 200;

/// The result of a round.
pub(super) struct Round {
    pub(super) changes: i64,
    /// The tables in which a row differs.
    pub(super) faults: Vec<String>,
}

impl OrganizationMove {
    /// Applies pending changes until few are left.
    pub(super) async fn catch_up(&self, connection: &mut Client) -> Result<(), Failure> {
        loop {
            let round = retry_on_conflict(connection, "applying changes", async |connection| {
                let transaction = connection.begin().await?;
                let round = self.apply_changes(&transaction).await?;
                transaction.commit().await?;
                Ok(round)
            })
            .await?;
            check(&round.faults)?;
            if round.changes > 0 {
                eprintln!("applied {} pending changes", round.changes);
            }
            if round.changes <= FEW {
                return Ok(());
            }
        }
    }

    /// Applies one round. Each statement sees the current rows: a change made after the pending
    /// changes were read is recorded again, for the next round. A single snapshot would fail on
    /// every concurrent change of a row that foreign keys refer to.
    pub(super) async fn apply_changes(&self, transaction: &Client) -> pg::Result<Round> {
        transaction.batch("SET LOCAL app.replicating = 'on'").await?;
        let (numbers, tables) = seen(transaction, self.organization.id).await?;
        let changes = i64::try_from(numbers.len()).unwrap_or(i64::MAX);
        let touched = |rows: &&TableRows| tables.iter().any(|name| name == rows.table.base_name());
        for rows in self.copied().filter(touched).rev() {
            self.execute(transaction, &numbers, &self.deletion(rows)).await?;
        }
        for rows in self.copied().filter(touched) {
            // Updates first: they may free a unique key, such as that of a revoked invitation.
            self.execute(transaction, &numbers, &self.update(rows)).await?;
            self.execute(transaction, &numbers, &self.insertion(rows)).await?;
        }
        let mut faults = Vec::new();
        for rows in self.rows.iter().filter(touched) {
            let wrong: i64 = transaction
                .query_one(&self.difference(rows), &[&self.organization.id, &numbers])
                .await?;
            if wrong > 0 {
                faults.push(rows.table.name.clone());
            }
        }
        let delete =
            "DELETE FROM app.pending_changes WHERE organization_id = $1 AND number = ANY($2)";
        self.execute(transaction, &numbers, delete).await?;
        Ok(Round { changes, faults })
    }

    async fn execute(&self, transaction: &Client, numbers: &[i64], sql: &str) -> pg::Result<()> {
        transaction.execute(sql, &[&self.organization.id, &numbers]).await?;
        Ok(())
    }

    fn deletion(&self, rows: &TableRows) -> String {
        format!(
            "DELETE FROM {} t USING ({}) k WHERE {} AND NOT EXISTS (SELECT FROM {} s WHERE {})",
            self.target(&rows.table),
            rows.changed(),
            rows.same("t", "k"),
            self.source(&rows.table),
            rows.same("s", "k")
        )
    }

    fn update(&self, rows: &TableRows) -> String {
        format!(
            "UPDATE {} t SET ({}) = ROW({}) FROM ({}) k, {} s WHERE {} AND {}",
            self.target(&rows.table),
            rows.columns(""),
            rows.columns("s"),
            rows.changed(),
            self.source(&rows.table),
            rows.same("s", "k"),
            rows.same("t", "k")
        )
    }

    fn insertion(&self, rows: &TableRows) -> String {
        format!(
            "INSERT INTO {target} ({}) SELECT {} FROM ({}) k JOIN {} s ON {}
             WHERE NOT EXISTS (SELECT FROM {target} t WHERE {})",
            rows.columns(""),
            rows.columns("s"),
            rows.changed(),
            self.source(&rows.table),
            rows.same("s", "k"),
            rows.same("t", "k"),
            target = self.target(&rows.table),
        )
    }

    /// Counts the changed rows that differ, except for rows that were changed again. A row missing
    /// on both sides counts as equal.
    fn difference(&self, rows: &TableRows) -> String {
        format!(
            "SELECT count(*) FROM ({} EXCEPT {}) k LEFT JOIN {} s ON {} LEFT JOIN {} t ON {} WHERE {} <> {}",
            rows.changed(),
            rows.changed_again(),
            self.source(&rows.table),
            rows.same("s", "k"),
            self.target(&rows.table),
            rows.same("t", "k"),
            rows.text("s"),
            rows.text("t")
        )
    }
}

/// Returns the numbers of a round's changes and the names of their tables.
pub(super) async fn seen(
    connection: &Client,
    organization: Uuid,
) -> pg::Result<(Vec<i64>, Vec<String>)> {
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
