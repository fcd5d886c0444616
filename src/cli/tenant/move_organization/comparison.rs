//! Compares every row on both sides in one snapshot. Rows with pending changes are left out here
//! and compared when the changes are applied.

use pg::Client;

use super::{changes::check, organization_move::OrganizationMove};
use crate::cli::{
    Failure, say,
    tenant::table_rows::{Digest, TableRows},
};

impl OrganizationMove {
    /// Returns how many rows were compared.
    pub(super) async fn compare(&self, connection: &mut Client) -> Result<i64, Failure> {
        let snapshot = connection.begin().await?;
        snapshot.batch("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        let (mut count, mut faults) = (0, Vec::new());
        for rows in &self.rows {
            let (source, target) = (self.source(&rows.table), self.target(&rows.table));
            let id = self.organization.id;
            let changed = rows.noted_keys(&snapshot, id).await?;
            let here = rows.digest(&snapshot, &source, id, &changed).await?;
            let there = rows.digest(&snapshot, &target, id, &changed).await?;
            faults.extend(verdict(rows, &here, &there));
            count += here.count;
        }
        check(&faults)?;
        Ok(count)
    }
}

/// Prints whether both sides are equal. Returns the table if they differ.
pub(super) fn verdict(rows: &TableRows, here: &Digest, there: &Digest) -> Option<String> {
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
