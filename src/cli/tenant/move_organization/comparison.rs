//! Compares every row on both sides in one snapshot of the source. Rows with pending changes are
//! left out here and compared when the changes are applied.

use pg::Client;

use super::{
    changes::check,
    directory_sync::LOCK,
    organization_move::{Ends, OrganizationMove},
};
use crate::cli::{
    Failure, say,
    tenant::{
        locks::begin_snapshot,
        table_rows::{Digest, TableRows},
    },
};

impl OrganizationMove {
    /// Returns how many rows were compared.
    pub(super) async fn compare(&self, ends: &mut Ends<'_>) -> Result<i64, Failure> {
        if ends.there.is_none() {
            let snapshot = begin_snapshot(ends.control).await?;
            let all: Vec<_> = self.rows.iter().collect();
            return self.compare_rows(&snapshot, &snapshot, &all).await;
        }
        let (copied, directory): (Vec<_>, Vec<_>) =
            self.rows.iter().partition(|rows| self.copies(rows));
        let mut count = 0;
        if !directory.is_empty() {
            // Pauses directory sync of servers. Writers of the directory wait meanwhile, but it is
            // small.
            let lock = format!("SELECT pg_advisory_lock({LOCK})");
            self.source_of(ends).batch(&lock).await?;
            self.catch_up(ends).await?;
            count += self.compare_databases(ends, &directory).await?;
            let unlock = format!("SELECT pg_advisory_unlock({LOCK})");
            self.source_of(ends).batch(&unlock).await?;
        }
        Ok(count + self.compare_databases(ends, &copied).await?)
    }

    /// Compares tables of two databases. Only this command writes to the target.
    async fn compare_databases(
        &self,
        ends: &mut Ends<'_>,
        tables: &[&TableRows],
    ) -> Result<i64, Failure> {
        let Some((source, target)) = self.sides(ends) else { return Ok(0) };
        let snapshot = begin_snapshot(source).await?;
        self.compare_rows(&snapshot, target, tables).await
    }

    async fn compare_rows(
        &self,
        source: &Client,
        target: &Client,
        tables: &[&TableRows],
    ) -> Result<i64, Failure> {
        let (mut count, mut faults) = (0, Vec::new());
        for rows in tables {
            let id = self.organization.id;
            let (changed, _) = rows.noted_keys(source, "app.pending_changes", id).await?;
            let here = rows.digest(source, &self.source(&rows.table), id, &changed).await?;
            let there = rows.digest(target, &self.target(&rows.table), id, &changed).await?;
            faults.extend(verdict(rows, &here, &there));
            count += here.count;
        }
        check(&faults)?;
        Ok(count)
    }
}

/// Prints whether both sides are equal. Returns the table if they differ.
fn verdict(rows: &TableRows, here: &Digest, there: &Digest) -> Option<String> {
    let (verdict, fault) = if here == there {
        ("same".to_owned(), None)
    } else {
        let verdict = format!("DIFFERS: {} rows, checksum {}", there.count, there.sum);
        (verdict, Some(rows.table.name.clone()))
    };
    say(format!(
        "{:<30} {:>10} rows  checksum {:>22}  {verdict}",
        rows.table.name, here.count, here.sum
    ));
    fault
}
