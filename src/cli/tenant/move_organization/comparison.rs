//! Compares every row on both sides in one snapshot of the source. Rows with pending changes are
//! left out here and compared when the changes are applied.

use pg::Client;

use super::{
    changes::check,
    directory_sync::LOCK,
    organization_move::{MoveConnections, OrganizationMove},
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
    pub(super) async fn compare(
        &self,
        connections: &mut MoveConnections<'_>,
    ) -> Result<i64, Failure> {
        if let MoveConnections::Within(_) = connections {
            return self.compare_tables(connections, &self.rows.iter().collect::<Vec<_>>()).await;
        }
        let (copied, directory): (Vec<_>, Vec<_>) =
            self.rows.iter().partition(|rows| self.copies(rows));
        let mut count = 0;
        if !directory.is_empty() {
            // Pauses directory sync of servers. Writers of the directory wait meanwhile, but it is
            // small.
            let lock = format!("SELECT pg_advisory_lock({LOCK})");
            connections.source().batch(&lock).await?;
            self.catch_up(connections).await?;
            count += self.compare_tables(connections, &directory).await?;
            let unlock = format!("SELECT pg_advisory_unlock({LOCK})");
            connections.source().batch(&unlock).await?;
        }
        Ok(count + self.compare_tables(connections, &copied).await?)
    }

    /// Compares tables. Only this command writes to the target.
    async fn compare_tables(
        &self,
        connections: &mut MoveConnections<'_>,
        tables: &[&TableRows],
    ) -> Result<i64, Failure> {
        let (source, target) = match connections {
            MoveConnections::Within(control) => {
                let snapshot = begin_snapshot(control).await?;
                return self.compare_rows(&snapshot, &snapshot, tables).await;
            }
            MoveConnections::ToDedicated { control, dedicated } => (control, dedicated),
            MoveConnections::FromDedicated { control, dedicated } => (dedicated, control),
        };
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
