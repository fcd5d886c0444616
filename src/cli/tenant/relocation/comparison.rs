//! Every row on both sides, at one snapshot; what has changed since it was copied is compared when it is brought.

use sqlx::{Connection, Executor, PgConnection};

use super::{Relocation, changes::check};
use crate::cli::{Failure, say};

impl Relocation {
    /// How many rows were compared.
    pub(super) async fn compare(&self, connection: &mut PgConnection) -> Result<i64, Failure> {
        let mut snapshot = connection.begin().await?;
        snapshot.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        let (mut count, mut faults) = (0, Vec::new());
        for rows in &self.rows {
            let (source, target) = (self.source(rows.table), self.target(rows.table));
            let id = self.organization.id;
            let here = rows.digest(&mut snapshot, &source, id, true).await?;
            let there = rows.digest(&mut snapshot, &target, id, true).await?;
            let verdict = if here == there {
                "same".to_owned()
            } else {
                faults.push(rows.table.name);
                format!("DIFFERS: {} rows, checksum {}", there.count, there.sum)
            };
            say(format!(
                "{:<30} {:>10} rows  checksum {:>22}  {verdict}",
                rows.table.name, here.count, here.sum
            ));
            count += here.count;
        }
        check(&faults)?;
        Ok(count)
    }
}
