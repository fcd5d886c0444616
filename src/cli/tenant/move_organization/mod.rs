//! `tenantry tenant move`: copies an organization online, applies pending changes and switches the
//! placement in one transaction.
//!
//! At any time, even after the command was killed, `app.placements` names the one placement whose
//! rows are current. The other is a copy.
//!
//! Two databases cannot commit atomically. In a move between them, the old placement first releases
//! the organization, permanently and with everything copied. Only then does the new one accept it.
//! In between it has no placement, and servers or the same command complete the move.

mod begin;
mod changes;
mod comparison;
mod copy;
mod directory_sync;
mod finish;
mod organization_move;
mod responses;
pub(super) mod stale_copy;
mod switch;
mod users;

use migration::{dedicated, placement};
use pg::Client;

use super::{
    Failure,
    locks::{lock_move, retry_on_conflict, wait_for_older_transactions},
    organization::{self, Organization},
    placement::Placement,
    table_rows::TableRows,
};
use crate::cli::{owner_connection::Owner, say};
pub(super) use directory_sync::LOCK as DIRECTORY_LOCK;
use finish::{cancel, finish};
use organization_move::{MoveConnections, OrganizationMove};
use switch::{SwitchTerms, WriterExclusion};
pub(in crate::cli) use users::copy as copy_users;
pub(super) use users::{members, outdated_users};

/// Move an organization between the shared tables, a dedicated schema and a dedicated database,
/// while it is in use. Run an interrupted move again to continue it, or move the organization to
/// its current placement to cancel it.
#[derive(Debug, clap::Args)]
pub(super) struct Move {
    /// The organization's slug or id.
    organization: String,

    /// The new placement: shared, schema, or database:NAME, one of MIGRATION_DATABASES.
    #[arg(long, value_name = "PLACEMENT")]
    to: Placement,

    /// Delete the stale copy at once, or one that an earlier move left.
    #[arg(long, conflicts_with = "keep_source_days")]
    drop_source: bool,

    /// Days for which the stale copy is kept before tenantry tenant prune deletes it.
    #[arg(long, value_name = "N", default_value_t = 7)]
    keep_source_days: u16,
}

impl Move {
    pub(super) async fn run(self, owner: &Owner, control: &mut Client) -> Result<(), Failure> {
        let organization = Organization::find(control, &self.organization).await?;
        let id = organization.id;
        lock_move(control, &organization).await?;
        placement::keep_steps(control).await?;
        // An earlier move has ended by now and may have changed the placement.
        let mut organization = Organization::get(control, id).await?;
        self.check(&organization)?;
        let mut there = match self.database(&organization) {
            Some(name) => match open(owner, &organization, name).await {
                Ok(there) => Some(there),
                // Cancelling must work even if the other database is lost. Its copy is deleted once
                // the database is reachable again.
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
        if let Some(there) = &there {
            let has_returned = finish(control, there, &organization).await?;
            organization = Organization::get(control, id).await?;
            if has_returned && self.to != organization.placement {
                return Err(Failure::new(format!(
                    "{} already lives in {}: its move was too far along to cancel",
                    organization.name, organization.placement
                )));
            }
        }
        if self.to == organization.placement {
            return self.stay(control, there.as_mut(), &organization).await;
        }
        organization.check_version()?;
        let rows = TableRows::of_all(control).await?;
        let moving = OrganizationMove { organization, target: self.to.clone(), rows };
        let mut connections = MoveConnections::new(&moving, control, there.as_mut())?;
        Box::pin(moving.run(&mut connections, self.keep_source_days)).await?;
        if self.drop_source {
            let moved = Organization::get(control, id).await?;
            drop_copy(control, there.as_mut(), &moved).await?;
        }
        Ok(())
    }

    /// Refuses unsupported routes, and moves that would leave a copy without a record of it.
    fn check(&self, organization: &Organization) -> Result<(), Failure> {
        let Organization { name, placement, moving_to, old_placement, .. } = organization;
        if self.to == *placement {
            return Ok(());
        }
        if let Some(target) = moving_to.as_ref().filter(|target| **target != self.to) {
            return Err(Failure::new(format!(
                "{name} is moving to {target}. Continue that move, or cancel it with --to {}.",
                placement.name()
            )));
        }
        if placement.database().is_some() && self.to != Placement::Shared {
            return Err(Failure::new(format!(
                "{name} lives in {placement}. Move it to the shared tables first, with --to shared."
            )));
        }
        match old_placement.as_ref().filter(|old| moving_to.is_none() && **old != self.to) {
            Some(old) => Err(Failure::new(format!(
                "{name} has a stale copy in {old}. Delete it first, with --to {} --drop-source.",
                placement.name()
            ))),
            None => Ok(()),
        }
    }

    /// The dedicated database that takes part in the move, if any.
    fn database<'name>(&'name self, organization: &'name Organization) -> Option<&'name str> {
        let Organization { placement, moving_to, old_placement, .. } = organization;
        let copy = old_placement.as_ref().filter(|_| self.drop_source);
        [Some(placement), Some(&self.to), moving_to.as_ref(), copy]
            .into_iter()
            .flatten()
            .find_map(Placement::database)
    }

    /// Handles a move to the current placement: cancels a move or deletes a stale copy.
    async fn stay(
        &self,
        control: &mut Client,
        there: Option<&mut Client>,
        organization: &Organization,
    ) -> Result<(), Failure> {
        let Organization { name, placement, .. } = organization;
        if let Some(target) = &organization.moving_to {
            cancel(control, there, organization, target).await?;
            say(format!("{name} stays in {placement}: its move was cancelled"));
        } else if self.drop_source && organization.old_placement.is_some() {
            drop_copy(control, there, organization).await?;
        } else {
            let status =
                [vec![format!("{name} lives in {placement}")], organization.remarks()].concat();
            say(status.join("; "));
        }
        Ok(())
    }
}

/// Deletes the stale copy once no request reads it.
async fn drop_copy(
    control: &mut Client,
    there: Option<&mut Client>,
    organization: &Organization,
) -> Result<(), Failure> {
    if let Some(old) = &organization.old_placement {
        stale_copy::remove(control, there, organization, old).await?;
        say(format!("deleted the stale copy of {} in {old}", organization.name));
    }
    Ok(())
}

/// Connects to a dedicated database. While the connection lives, no other command moves the
/// organization there or migrates that database.
pub(super) async fn open(
    owner: &Owner,
    organization: &Organization,
    name: &str,
) -> Result<Client, Failure> {
    let there = organization::dedicated(owner, name).await?;
    lock_move(&there, organization).await?;
    placement::keep_steps(&there).await?;
    Ok(there)
}

impl OrganizationMove {
    async fn run(
        &self,
        connections: &mut MoveConnections<'_>,
        keep_days: u16,
    ) -> Result<(), Failure> {
        let Organization { id, name, .. } = &self.organization;
        if self.is_begun(connections).await? {
            eprintln!("continuing the move of {name}");
        } else {
            self.begin(connections).await?;
        }
        wait_for_older_transactions(
            connections.source(),
            "transactions that began before the move",
            "l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.relation = ANY ($1::regclass[]::oid[])",
            &self.rows.iter().map(|rows| self.source(&rows.table)).collect::<Vec<_>>(),
        )
        .await?;
        self.prepare(connections).await?;
        self.check_structure(connections).await?;
        self.copy_all(connections).await?;
        let responses_since = self.copy_responses(connections).await?;
        self.catch_up(connections).await?;
        let count = self.compare(connections).await?;
        let terms = SwitchTerms { keep_days, count, responses_since };
        let exclusion = loop {
            self.catch_up(connections).await?;
            if let Some(exclusion) = self.switch(connections, &terms).await? {
                break exclusion;
            }
        };
        if let (control, Some(there)) = connections.each() {
            let moved = Organization::get(control, *id).await?;
            finish(control, there, &moved).await?;
        }
        self.report(count, &exclusion);
        Ok(())
    }

    async fn copy_all(&self, connections: &mut MoveConnections<'_>) -> Result<(), Failure> {
        if let MoveConnections::ToDedicated { .. } = connections {
            retry_on_conflict(
                connections,
                "copying the catalogue",
                async |connections: &mut MoveConnections<'_>| {
                    if let (control, Some(there)) = connections.each() {
                        dedicated::copy_catalogue(control, there).await?;
                    }
                    Ok(())
                },
            )
            .await?;
        }
        for rows in self.rows.iter().filter(|rows| self.copies(rows)) {
            self.copy(connections, rows).await?;
        }
        if self.target != Placement::Shared {
            for rows in &self.rows {
                let analyze = format!("ANALYZE {}", self.target(&rows.table));
                connections.target().batch(&analyze).await?;
            }
        }
        Ok(())
    }

    fn report(&self, count: i64, exclusion: &WriterExclusion) {
        let WriterExclusion { waited, started, changes } = exclusion;
        let held = started.elapsed();
        let Organization { name, placement, .. } = &self.organization;
        say(format!(
            "{name} now lives in {}, moved from {placement}: {count} rows compared, {changes} pending changes applied in the switch, writers paused for at most {} ms",
            self.target,
            (*waited + held).as_millis(),
        ));
        say(format!(
            "  of which {} ms waiting for earlier transactions and {} ms for the switch itself",
            waited.as_millis(),
            held.as_millis()
        ));
    }
}
