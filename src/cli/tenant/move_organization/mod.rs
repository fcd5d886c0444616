//! `tenantry tenant move`: an online copy, with the changes made meanwhile brought after, and a
//! switch in one transaction.
//!
//! At any time `app.placements` names the one place whose rows are the truth; the other is a copy,
//! wherever the command was killed. Between databases see `across`.

mod begin;
mod changes;
mod comparison;
mod copy;
mod cross_database;
pub(super) mod stale_copy;
mod switch;

use migration::placement::{self, Table};
use sqlx::{Executor, PgConnection};

use super::{
    Failure,
    locks::{become_mover, wait_for_older_transactions},
    organization::Organization,
    placement::Placement,
    tables::TableRows,
};
use crate::cli::{owner::Owner, say};
pub(in crate::cli) use cross_database::bring_people;
use cross_database::{CrossDatabaseMove, Endpoints, Finished};
pub(super) use cross_database::{DIRECTORY_LOCK, members, open, refreshed};
use switch::Switched;

/// Move an organization to a schema of its own, to another database, or back, while its people work
/// on. Killed or failed, it is where it was: the same command goes on, and moving it to where it
/// lives calls the move off.
#[derive(Debug, clap::Args)]
pub(super) struct Move {
    /// The organization's slug or id.
    organization: String,

    /// Where it is to live: shared, schema, or database:NAME, one of MIGRATION_DATABASES.
    #[arg(long, value_name = "HOME")]
    to: Placement,

    /// Delete the old copy at once, or one of a move before.
    #[arg(long, conflicts_with = "keep_source_days")]
    drop_source: bool,

    /// For how many days the old copy is kept at least; tenantry tenant prune deletes it then.
    #[arg(long, value_name = "N", default_value_t = 7)]
    keep_source_days: u16,
}

/// One move.
struct OrganizationMove {
    organization: Organization,
    target: Placement,
    /// Parents first.
    rows: Vec<TableRows>,
}

impl OrganizationMove {
    fn source(&self, table: &Table) -> String {
        self.organization.placement.table(table, self.organization.id)
    }

    fn target(&self, table: &Table) -> String {
        self.target.table(table, self.organization.id)
    }

    /// What has to be brought: the shared tables have a copy of the rest, which is kept in step.
    fn applied(&self) -> impl DoubleEndedIterator<Item = &TableRows> {
        self.rows.iter().filter(|rows| self.target == Placement::Schema || !rows.table.mirrored)
    }
}

impl Move {
    pub(super) async fn run(
        self,
        owner: &Owner,
        control: &mut PgConnection,
    ) -> Result<(), Failure> {
        let organization = Organization::find(control, &self.organization).await?;
        let id = organization.id;
        become_mover(control, &organization).await?;
        placement::keep_steps(control).await?;
        // Whoever moved it before us has finished.
        let mut organization = Organization::get(control, id).await?;
        self.check(&organization)?;
        let mut there = match self.database(&organization) {
            Some(name) => match open(owner, &organization, name).await {
                Ok(there) => Some(there),
                // It stays even when the other database is lost; what was copied there is deleted
                // when that is back.
                Err(failure)
                    if self.to == organization.placement && self.to.database().is_none() =>
                {
                    eprintln!("{failure}");
                    None
                }
                Err(failure) => return Err(failure),
            },
            None => None,
        };
        if let Some(there) = &mut there {
            let finished =
                cross_database::finish(&mut Endpoints { control, there }, &organization).await?;
            organization = Organization::get(control, id).await?;
            if finished == Finished::TakenBack && self.to != organization.placement {
                return Err(Failure::new(format!(
                    "{} lives in {} by now: it was too late to call its move off",
                    organization.name, organization.placement
                )));
            }
        }
        if self.to == organization.placement {
            return self.stay(control, there.as_mut(), &organization).await;
        }
        organization.check_version()?;
        let rows = TableRows::of_all(control).await?;
        let move_organization = OrganizationMove { organization, target: self.to.clone(), rows };
        if let Some(there) = &mut there {
            let crossing = CrossDatabaseMove::new(move_organization)?;
            Box::pin(crossing.run(&mut Endpoints { control, there }, self.keep_source_days))
                .await?;
        } else {
            move_organization.run(control, self.keep_source_days).await?;
        }
        if self.drop_source {
            let moved = Organization::get(control, id).await?;
            drop_copy(control, there.as_mut(), &moved).await?;
        }
        Ok(())
    }

    /// Refuses what would leave a copy behind that nobody knows of, and ways that are none.
    fn check(&self, organization: &Organization) -> Result<(), Failure> {
        let Organization { name, placement, moving_to, old_home, .. } = organization;
        if self.to == *placement {
            return Ok(());
        }
        if let Some(target) = moving_to.as_ref().filter(|target| **target != self.to) {
            return Err(Failure::new(format!(
                "{name} is on its way to {target}: go on with that, or call it off with --to {}",
                placement.name()
            )));
        }
        if placement.database().is_some() && self.to != Placement::Shared {
            return Err(Failure::new(format!(
                "{name} lives in {placement}: move it to the shared tables first, with --to shared"
            )));
        }
        match old_home.as_ref().filter(|old| moving_to.is_none() && **old != self.to) {
            Some(old) => Err(Failure::new(format!(
                "{name} has an old copy in {old}: delete it first, with --to {} --drop-source",
                placement.name()
            ))),
            None => Ok(()),
        }
    }

    /// The database beside the control database that has to do with it.
    fn database<'name>(&'name self, organization: &'name Organization) -> Option<&'name str> {
        let Organization { placement, moving_to, old_home, .. } = organization;
        let copy = old_home.as_ref().filter(|_| self.drop_source);
        [Some(placement), Some(&self.to), moving_to.as_ref(), copy]
            .into_iter()
            .flatten()
            .find_map(Placement::database)
    }

    /// It lives there: what remains is to call a move off, or to delete a copy.
    async fn stay(
        &self,
        control: &mut PgConnection,
        there: Option<&mut PgConnection>,
        organization: &Organization,
    ) -> Result<(), Failure> {
        let Organization { name, placement, .. } = organization;
        if let Some(target) = &organization.moving_to {
            begin::cancel(control, there, organization, target).await?;
            say(format!("{name} stays in {placement}: its move was called off"));
        } else if self.drop_source && organization.old_home.is_some() {
            drop_copy(control, there, organization).await?;
        } else {
            let told =
                [vec![format!("{name} lives in {placement}")], organization.remarks()].concat();
            say(told.join("; "));
        }
        Ok(())
    }
}

/// After those who still read there.
async fn drop_copy(
    control: &mut PgConnection,
    there: Option<&mut PgConnection>,
    organization: &Organization,
) -> Result<(), Failure> {
    if let Some(old) = &organization.old_home {
        stale_copy::remove(control, there, organization, old).await?;
        say(format!("the old copy of {} in {old} is deleted", organization.name));
    }
    Ok(())
}

impl OrganizationMove {
    async fn run(&self, connection: &mut PgConnection, keep_days: u16) -> Result<(), Failure> {
        let Organization { id, name, .. } = &self.organization;
        if self.organization.moving_to.is_none() {
            begin::begin(connection, *id, &self.target).await?;
        } else {
            eprintln!("going on with the move of {name}");
        }
        wait_for_older_transactions(
            connection,
            "transactions that began before the move",
            "l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.relation = ANY ($1::regclass[]::oid[])",
            &self.rows.iter().map(|rows| self.source(rows.table)).collect::<Vec<_>>(),
        )
        .await?;
        begin::prepare(connection, *id, &self.target).await?;
        for rows in self.applied() {
            self.copy(connection, rows).await?;
        }
        if self.target == Placement::Schema {
            for rows in &self.rows {
                let analyze = format!("ANALYZE {}", self.target(rows.table));
                connection.execute(sqlx::AssertSqlSafe(analyze)).await?;
            }
        }
        self.catch_up(connection).await?;
        let count = self.compare(connection).await?;
        let done = loop {
            self.catch_up(connection).await?;
            if let Some(done) = self.switch(connection, keep_days, count).await? {
                break done;
            }
        };
        self.tell(count, &done);
        Ok(())
    }

    fn tell(&self, count: i64, done: &Switched) {
        let Organization { name, placement, .. } = &self.organization;
        say(format!(
            "{name} lives in {} now, no more in {placement}: {count} rows compared, {} changes brought after in the end, writers held up for {} ms at the most",
            self.target,
            done.changes,
            (done.waited + done.held).as_millis(),
        ));
        say(format!(
            "  of these {} ms until those before them had finished, {} ms for the switch itself",
            done.waited.as_millis(),
            done.held.as_millis()
        ));
    }
}
