//! A move to another database, or from there. Two databases cannot commit at once, so the old home
//! lets go first, for good and with everything brought; only then the new one takes the
//! organization in. Between the two it has no home, and whoever comes finishes what was begun:
//! servers, or the same command.

mod begin;
mod changes;
mod copy;
mod directory;
mod idempotency_keys;
mod switch;
mod users;

use std::time::Instant;

use migration::{dedicated, placement};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{OrganizationMove, changes::check, comparison::verdict};
use crate::cli::{
    Failure,
    owner::Owner,
    tenant::{
        locks::{become_mover, wait_for_older_transactions, with_timeout},
        organization::{self, Organization},
        placement::Placement,
        tables::TableRows,
    },
};

pub(super) use self::begin::{Finished, finish, stop};
pub(in crate::cli) use self::users::bring as bring_people;
pub(in crate::cli::tenant) use self::{
    directory::LOCK as DIRECTORY_LOCK,
    users::{members, refreshed},
};

/// The connections of a move.
pub(super) struct Endpoints<'c> {
    pub(super) control: &'c mut PgConnection,
    /// The other database.
    pub(super) there: &'c mut PgConnection,
}

impl Endpoints<'_> {
    /// Ends transactions that were given up: they would last until their connection is used again.
    async fn let_go(&mut self) -> Result<(), sqlx::Error> {
        self.control.ping().await?;
        self.there.ping().await
    }
}

/// Nobody else moves the organization in that database, or migrates it, for as long as the
/// connection lives.
pub(in crate::cli::tenant) async fn open(
    owner: &Owner,
    organization: &Organization,
    name: &str,
) -> Result<PgConnection, Failure> {
    let mut there = organization::dedicated(owner, name).await?;
    become_mover(&mut there, organization).await?;
    placement::keep_steps(&mut there).await?;
    Ok(there)
}

/// One move.
pub(super) struct CrossDatabaseMove {
    move_organization: OrganizationMove,
    /// The name of the other database.
    database: String,
    /// From the control database to the other one.
    out: bool,
    /// Of the placement, once it has moved.
    generation: i64,
}

impl CrossDatabaseMove {
    pub(super) fn new(move_organization: OrganizationMove) -> Result<Self, Failure> {
        let (placement, target) =
            (&move_organization.organization.placement, &move_organization.target);
        let database = target.database().or(placement.database());
        let database =
            database.ok_or_else(|| Failure::new("neither home is a database"))?.to_owned();
        let out = target.database().is_some();
        let generation = move_organization.organization.generation + 1;
        Ok(Self { move_organization, database, out, generation })
    }

    fn organization(&self) -> &Organization {
        &self.move_organization.organization
    }

    /// Where rows come from, and where they go.
    fn sides<'e>(
        &self,
        ends: &'e mut Endpoints<'_>,
    ) -> (&'e mut PgConnection, &'e mut PgConnection) {
        if self.out { (ends.control, ends.there) } else { (ends.there, ends.control) }
    }

    /// What has to be brought row by row: the control database has a directory of the rest.
    fn applied(&self) -> impl DoubleEndedIterator<Item = &TableRows> {
        self.move_organization.rows.iter().filter(|rows| self.out || !rows.table.mirrored)
    }

    pub(super) async fn run(
        &self,
        ends: &mut Endpoints<'_>,
        keep_days: u16,
    ) -> Result<(), Failure> {
        if self.is_begun(ends).await? {
            eprintln!("going on with the move of {}", self.organization().name);
        } else {
            self.begin(ends).await?;
        }
        let tables: Vec<String> = self
            .move_organization
            .rows
            .iter()
            .map(|rows| self.move_organization.source(rows.table))
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
            with_timeout(ends, "bringing the catalogue", async |ends: &mut Endpoints<'_>| {
                dedicated::bring_catalogue(ends.control, ends.there).await
            })
            .await?;
        }
        for rows in self.applied() {
            self.copy(ends, rows).await?;
        }
        if self.out {
            for rows in &self.move_organization.rows {
                ends.there.execute(AssertSqlSafe(format!("ANALYZE {}", rows.table.name))).await?;
            }
        }
        let answers_since = self.copy_idempotency_keys(ends).await?;
        self.catch_up(ends).await?;
        let count = self.compare(ends).await?;
        let mut done = loop {
            self.catch_up(ends).await?;
            if let Some(done) = self.switch(ends, (keep_days, count, &answers_since)).await? {
                break done;
            }
        };
        let begun = Instant::now();
        let moved = Organization::get(ends.control, self.organization().id).await?;
        finish(ends, &moved).await?;
        done.held += begun.elapsed();
        self.move_organization.tell(count, &done);
        Ok(())
    }

    /// How many rows were compared: all of both sides.
    async fn compare(&self, ends: &mut Endpoints<'_>) -> Result<i64, Failure> {
        let (directory, rest): (Vec<&TableRows>, Vec<&TableRows>) =
            self.move_organization.rows.iter().partition(|rows| !self.out && rows.table.mirrored);
        let mut count = 0;
        if !directory.is_empty() {
            // Nobody but us brings the directory after until then; who writes there waits for it,
            // but it is small.
            let lock = format!("SELECT pg_advisory_lock({DIRECTORY_LOCK})");
            ends.there.execute(AssertSqlSafe(lock)).await?;
            self.catch_up(ends).await?;
            count += self.compare_rows(ends, &directory).await?;
            let unlock = format!("SELECT pg_advisory_unlock({DIRECTORY_LOCK})");
            ends.there.execute(AssertSqlSafe(unlock)).await?;
        }
        Ok(count + self.compare_rows(ends, &rest).await?)
    }

    /// At one snapshot of the source, but for what is noted in it: that is compared when it is
    /// brought. Nobody but us writes in the target.
    async fn compare_rows(
        &self,
        ends: &mut Endpoints<'_>,
        tables: &[&TableRows],
    ) -> Result<i64, Failure> {
        let (source, target) = self.sides(ends);
        let id = self.organization().id;
        let mut snapshot = source.begin().await?;
        snapshot.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        let (mut count, mut faults) = (0, Vec::new());
        for rows in tables {
            let changed = rows.noted_keys(&mut snapshot, id).await?;
            let place = self.move_organization.source(rows.table);
            let here = rows.digest(&mut snapshot, &place, id, &changed).await?;
            let place = self.move_organization.target(rows.table);
            let there = rows.digest(target, &place, id, &changed).await?;
            faults.extend(verdict(rows, &here, &there));
            count += here.count;
        }
        snapshot.commit().await?;
        check(&faults)?;
        Ok(count)
    }
}

/// How the database names the home of an organization that is on its way out of it.
fn elsewhere() -> String {
    Placement::Elsewhere.name()
}
