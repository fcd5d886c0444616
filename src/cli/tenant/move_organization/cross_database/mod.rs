//! Cross-database moves. Two databases cannot commit atomically, so the old placement first
//! releases the organization, permanently and with everything copied. Only then does the new one
//! accept it. In between it has no placement, and servers or the same command complete the move.

mod begin;
mod changes;
mod copy;
mod cross_database_move;
mod directory_sync;
mod idempotency_keys;
mod switch;
mod users;

use std::time::Instant;

use migration::{dedicated, placement};
use pg::Client;

use super::{changes::check, comparison::verdict};
use crate::cli::{
    Failure,
    owner_connection::Owner,
    tenant::{
        locks::{lock_move, retry_on_conflict, wait_for_older_transactions},
        organization::{self, Organization},
        table_rows::TableRows,
    },
};

pub(in crate::cli) use self::users::copy as copy_users;
pub(super) use self::{
    begin::{Finished, finish, stop},
    cross_database_move::{CrossDatabaseMove, Endpoints},
};
pub(in crate::cli::tenant) use self::{
    directory_sync::LOCK as DIRECTORY_LOCK,
    users::{members, outdated_users},
};

/// Connects to a dedicated database. While the connection lives, no other command moves the
/// organization there or migrates that database.
pub(in crate::cli::tenant) async fn open(
    owner: &Owner,
    organization: &Organization,
    name: &str,
) -> Result<Client, Failure> {
    let there = organization::dedicated(owner, name).await?;
    lock_move(&there, organization).await?;
    placement::keep_steps(&there).await?;
    Ok(there)
}

impl CrossDatabaseMove {
    pub(super) async fn run(
        &self,
        ends: &mut Endpoints<'_>,
        keep_days: u16,
    ) -> Result<(), Failure> {
        if self.is_begun(ends).await? {
            eprintln!("continuing the move of {}", self.organization().name);
        } else {
            self.begin(ends).await?;
        }
        let tables: Vec<String> = self
            .move_organization
            .rows
            .iter()
            .map(|rows| self.move_organization.source(&rows.table))
            .collect();
        wait_for_older_transactions(
            self.sides(ends).0,
            "transactions that began before the move",
            "l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.relation = ANY ($1::regclass[]::oid[])",
            &tables,
        )
        .await?;
        self.prepare(ends).await?;
        if self.out {
            retry_on_conflict(ends, "copying the catalogue", async |ends: &mut Endpoints<'_>| {
                dedicated::copy_catalogue(ends.control, ends.there).await
            })
            .await?;
        }
        for rows in self.copied() {
            self.copy(ends, rows).await?;
        }
        if self.out {
            for rows in &self.move_organization.rows {
                ends.there.batch(&format!("ANALYZE {}", rows.table.name)).await?;
            }
        }
        let responses_since = self.copy_responses(ends).await?;
        self.catch_up(ends).await?;
        let count = self.compare(ends).await?;
        let mut done = loop {
            self.catch_up(ends).await?;
            if let Some(done) = self.switch(ends, (keep_days, count, &responses_since)).await? {
                break done;
            }
        };
        let started = Instant::now();
        let moved = Organization::get(ends.control, self.organization().id).await?;
        finish(ends, &moved).await?;
        done.held += started.elapsed();
        self.move_organization.report(count, &done);
        Ok(())
    }

    /// Compares all rows of both sides. Returns how many.
    async fn compare(&self, ends: &mut Endpoints<'_>) -> Result<i64, Failure> {
        let (directory, rest): (Vec<&TableRows>, Vec<&TableRows>) =
            self.move_organization.rows.iter().partition(|rows| !self.out && rows.table.mirrored);
        let mut count = 0;
        if !directory.is_empty() {
            // Pauses directory sync of servers. Writers of the directory wait meanwhile, but it is
            // small.
            let lock = format!("SELECT pg_advisory_lock({DIRECTORY_LOCK})");
            ends.there.batch(&lock).await?;
            self.catch_up(ends).await?;
            count += self.compare_rows(ends, &directory).await?;
            let unlock = format!("SELECT pg_advisory_unlock({DIRECTORY_LOCK})");
            ends.there.batch(&unlock).await?;
        }
        Ok(count + self.compare_rows(ends, &rest).await?)
    }

    /// Compares in one snapshot of the source. Rows with pending changes are compared when those
    /// are applied. Only this command writes to the target.
    async fn compare_rows(
        &self,
        ends: &mut Endpoints<'_>,
        tables: &[&TableRows],
    ) -> Result<i64, Failure> {
        let (source, target) = self.sides(ends);
        let id = self.organization().id;
        let snapshot = source.begin().await?;
        snapshot.batch("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        let (mut count, mut faults) = (0, Vec::new());
        for rows in tables {
            let changed = rows.noted_keys(&snapshot, id).await?;
            let place = self.move_organization.source(&rows.table);
            let here = rows.digest(&snapshot, &place, id, &changed).await?;
            let place = self.move_organization.target(&rows.table);
            let there = rows.digest(target, &place, id, &changed).await?;
            faults.extend(verdict(rows, &here, &there));
            count += here.count;
        }
        snapshot.commit().await?;
        check(&faults)?;
        Ok(count)
    }
}
