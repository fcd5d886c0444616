//! `tenantry tenant move`: an online copy, with the changes made meanwhile brought after, and a switch in one transaction.
//!
//! At any time `app.placements` names the one place whose rows are the truth; the other is a copy, wherever the command was killed.

mod begin;
mod changes;
mod comparison;
mod copy;
pub(super) mod leftover;
mod switch;

use migration::placement::{self, Table};
use sqlx::{Executor, PgConnection};

use super::{
    Failure,
    patience::{become_mover, outlive},
    place::{Home, Organization},
    rows::Rows,
};
use crate::cli::say;

/// Move an organization to a schema of its own, or back, while its people work on. Killed or failed, it is where it was: the same
/// command goes on, and moving it to where it lives calls the move off.
#[derive(Debug, clap::Args)]
pub(super) struct Move {
    /// The organization's slug or id.
    organization: String,

    /// Where it is to live.
    #[arg(long)]
    to: Home,

    /// Delete the old copy at once, or one of a move before.
    #[arg(long, conflicts_with = "keep_source_days")]
    drop_source: bool,

    /// For how many days the old copy is kept at least; tenantry tenant prune deletes it then.
    #[arg(long, value_name = "N", default_value_t = 7)]
    keep_source_days: u16,
}

/// One move.
struct Relocation {
    organization: Organization,
    target: Home,
    /// Parents first.
    rows: Vec<Rows>,
}

impl Relocation {
    fn source(&self, table: &Table) -> String {
        self.organization.home.table(table, self.organization.id)
    }

    fn target(&self, table: &Table) -> String {
        self.target.table(table, self.organization.id)
    }

    /// What has to be brought: the shared tables have a copy of the rest, which is kept in step.
    fn brought(&self) -> impl DoubleEndedIterator<Item = &Rows> {
        self.rows.iter().filter(|rows| self.target == Home::Schema || !rows.table.mirrored)
    }
}

impl Move {
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<(), Failure> {
        let organization = Organization::find(connection, &self.organization).await?;
        let id = organization.id;
        become_mover(connection, &organization).await?;
        placement::keep_steps(connection).await?;
        // Whoever moved it before us has finished.
        let organization = Organization::get(connection, id).await?;
        if self.to == organization.home {
            return self.stay(connection, &organization).await;
        }
        organization.check_version()?;
        let rows = Rows::of_all(connection).await?;
        let relocation = Relocation { organization, target: self.to, rows };
        relocation.run(connection, self.keep_source_days).await?;
        if self.drop_source {
            let moved = Organization::get(connection, id).await?;
            drop_copy(connection, &moved).await?;
        }
        Ok(())
    }

    /// It lives there: what remains is to call a move off, or to delete a copy.
    async fn stay(
        &self,
        connection: &mut PgConnection,
        organization: &Organization,
    ) -> Result<(), Failure> {
        let Organization { name, home, .. } = organization;
        if let Some(target) = organization.moving_to {
            begin::call_off(connection, organization, target).await?;
            say(format!("{name} stays in {home}: its move was called off"));
        } else if self.drop_source && organization.old_home.is_some() {
            drop_copy(connection, organization).await?;
        } else {
            let told = [vec![format!("{name} lives in {home}")], organization.remarks()].concat();
            say(told.join("; "));
        }
        Ok(())
    }
}

/// After those who still read there.
async fn drop_copy(
    connection: &mut PgConnection,
    organization: &Organization,
) -> Result<(), Failure> {
    if let Some(old) = organization.old_home {
        leftover::remove(connection, organization, old).await?;
        say(format!("the old copy of {} in {old} is deleted", organization.name));
    }
    Ok(())
}

impl Relocation {
    async fn run(&self, connection: &mut PgConnection, keep_days: u16) -> Result<(), Failure> {
        let Organization { id, name, home, .. } = &self.organization;
        if self.organization.moving_to.is_none() {
            begin::begin(connection, *id, self.target).await?;
        } else {
            eprintln!("going on with the move of {name}");
        }
        outlive(
            connection,
            "transactions that began before the move",
            "l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.relation = ANY ($1::regclass[]::oid[])",
            &self.rows.iter().map(|rows| self.source(rows.table)).collect::<Vec<_>>(),
        )
        .await?;
        begin::prepare(connection, *id, self.target).await?;
        for rows in self.brought() {
            self.copy(connection, rows).await?;
        }
        if self.target == Home::Schema {
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
        say(format!(
            "{name} lives in {} now, no more in {home}: {count} rows compared, {} changes brought after in the end, writers held up for {} ms at the most",
            self.target,
            done.changes,
            (done.waited + done.held).as_millis(),
        ));
        say(format!(
            "  of these {} ms until those before them had finished, {} ms for the switch itself",
            done.waited.as_millis(),
            done.held.as_millis()
        ));
        Ok(())
    }
}
