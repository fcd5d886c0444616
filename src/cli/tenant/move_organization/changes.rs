//! What was changed since it was copied, brought after it: for each key that was noted, what the
//! source says now.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use super::OrganizationMove;
use crate::cli::{
    Failure,
    tenant::{locks::with_timeout, tables::TableRows},
};

/// Changes of a round.
const BATCH: i64 = 10_000;

/// So few that the switch may bring them.
pub(super) const FEW: i64 = 200;

/// What a round came to.
pub(super) struct Round {
    pub(super) changes: i64,
    /// Tables in which a row is not as it should be.
    pub(super) faults: Vec<&'static str>,
}

impl OrganizationMove {
    /// Until next to nothing is left.
    pub(super) async fn catch_up(&self, connection: &mut PgConnection) -> Result<(), Failure> {
        loop {
            let round = with_timeout(connection, "bringing changes", async |connection| {
                let mut transaction = connection.begin().await?;
                let round = self.apply_changes(&mut transaction).await?;
                transaction.commit().await?;
                Ok(round)
            })
            .await?;
            check(&round.faults)?;
            if round.changes > 0 {
                eprintln!("{} changes brought after", round.changes);
            }
            if round.changes <= FEW {
                return Ok(());
            }
        }
    }

    /// One round. Each statement sees the rows as they are by then: whoever changes one after we
    /// have looked at what was noted has noted it anew, for the next round. (One snapshot for all
    /// would fail with every change of a row that foreign keys lead to.)
    pub(super) async fn apply_changes(
        &self,
        transaction: &mut PgConnection,
    ) -> Result<Round, sqlx::Error> {
        transaction.execute("SET LOCAL app.copying = 'on'").await?;
        let (numbers, tables) = seen(transaction, self.organization.id).await?;
        let changes = i64::try_from(numbers.len()).unwrap_or(i64::MAX);
        let touched = |rows: &&TableRows| tables.iter().any(|name| name == rows.table.base_name());
        for rows in self.applied().filter(touched).rev() {
            self.execute(transaction, &numbers, &self.deletion(rows)).await?;
        }
        for rows in self.applied().filter(touched) {
            // First what makes room for others, such as an invitation that is taken back.
            self.execute(transaction, &numbers, &self.update(rows)).await?;
            self.execute(transaction, &numbers, &self.insertion(rows)).await?;
        }
        let mut faults = Vec::new();
        for rows in self.rows.iter().filter(touched) {
            let wrong: i64 = sqlx::query_scalar(AssertSqlSafe(self.difference(rows)))
                .bind(self.organization.id)
                .bind(&numbers)
                .fetch_one(&mut *transaction)
                .await?;
            if wrong > 0 {
                faults.push(rows.table.name);
            }
        }
        let delete =
            "DELETE FROM app.pending_changes WHERE organization_id = $1 AND number = ANY($2)";
        self.execute(transaction, &numbers, delete).await?;
        Ok(Round { changes, faults })
    }

    async fn execute(
        &self,
        transaction: &mut PgConnection,
        numbers: &[i64],
        sql: &str,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(AssertSqlSafe(sql.to_owned()))
            .bind(self.organization.id)
            .bind(numbers)
            .execute(transaction)
            .await?;
        Ok(())
    }

    fn deletion(&self, rows: &TableRows) -> String {
        format!(
            "DELETE FROM {} t USING ({}) k WHERE {} AND NOT EXISTS (SELECT FROM {} s WHERE {})",
            self.target(rows.table),
            rows.changed(),
            rows.same("t", "k"),
            self.source(rows.table),
            rows.same("s", "k")
        )
    }

    fn update(&self, rows: &TableRows) -> String {
        format!(
            "UPDATE {} t SET ({}) = ROW({}) FROM ({}) k, {} s WHERE {} AND {}",
            self.target(rows.table),
            rows.columns(""),
            rows.columns("s"),
            rows.changed(),
            self.source(rows.table),
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
            self.source(rows.table),
            rows.same("s", "k"),
            rows.same("t", "k"),
            target = self.target(rows.table),
        )
    }

    /// How many of the changed rows differ, but for those that were changed again; one that is
    /// nowhere is the same.
    fn difference(&self, rows: &TableRows) -> String {
        format!(
            "SELECT count(*) FROM ({} EXCEPT {}) k LEFT JOIN {} s ON {} LEFT JOIN {} t ON {} WHERE {} <> {}",
            rows.changed(),
            rows.changed_again(),
            self.source(rows.table),
            rows.same("s", "k"),
            self.target(rows.table),
            rows.same("t", "k"),
            rows.text("s"),
            rows.text("t")
        )
    }
}

/// The numbers of a round's changes, and in which tables they are.
pub(super) async fn seen(
    connection: &mut PgConnection,
    organization: Uuid,
) -> Result<(Vec<i64>, Vec<String>), sqlx::Error> {
    // Numbers are not given in the order of commits: those that are seen are all that is known.
    sqlx::query_as(
        "SELECT coalesce(array_agg(number), '{}'), coalesce(array_agg(DISTINCT table_name), '{}')
         FROM (SELECT number, table_name FROM app.pending_changes WHERE organization_id = $1 ORDER BY number LIMIT $2) seen",
    )
    .bind(organization)
    .bind(BATCH)
    .fetch_one(connection)
    .await
}

/// Nothing is switched to what differs.
pub(super) fn check(faults: &[&str]) -> Result<(), Failure> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the copy differs in {}: the organization stays where it is; call the move off, and see tenantry tenant verify",
        faults.join(", ")
    )))
}
