//! `tenantry tenant prune`: deletes the stale copies that moves leave behind. It never deletes from
//! the current placement.

use pg::Client;
use uuid::Uuid;

use super::{
    Failure,
    locks::lock_move,
    move_organization::{open, stale_copy},
    organization::Organization,
};
use crate::{
    cli::{owner_connection::Owner, say},
    clock::Clock,
};

/// Delete expired copies left by moves. Run it every day, for example from cron.
#[derive(Debug, clap::Args)]
pub(super) struct Prune {}

impl Prune {
    pub(super) async fn run(self, owner: &Owner, connection: &mut Client) -> Result<(), Failure> {
        let expired: Vec<Uuid> = connection
            .query(
                "SELECT organization_id FROM app.placements
             WHERE moving_to IS NULL AND old_placement IS NOT NULL AND keep_old_until <= now() ORDER BY keep_old_until",
                &[],
            )
            .await?;
        let (mut count, mut failed) = (0, 0);
        for id in expired {
            match prune(owner, connection, id).await {
                Ok(true) => count += 1,
                Ok(false) => {}
                // A database that cannot be reached must not keep copies in others.
                Err(failure) => {
                    eprintln!("{id}: {failure}");
                    failed += 1;
                }
            }
        }
        say(format!("stale copies deleted: {count}"));
        match failed {
            0 => Ok(()),
            failed => Err(Failure::new(format!(
                "stale copies that could not be deleted: {failed}. Fix the error above and run the command again."
            ))),
        }
    }
}

async fn prune(owner: &Owner, connection: &mut Client, id: Uuid) -> Result<bool, Failure> {
    let organization = Organization::get(connection, id).await?;
    lock_move(connection, &organization).await?;
    let organization = Organization::get(connection, id).await?;
    let now = Clock::system().now();
    let is_expired = organization.keep_old_until.is_some_and(|until| until <= now);
    let (None, Some(old), true) =
        (&organization.moving_to, &organization.old_placement, is_expired)
    else {
        return Ok(false);
    };
    let mut there = match old.database() {
        Some(name) => Some(open(owner, &organization, name).await?),
        None => None,
    };
    stale_copy::remove(connection, there.as_mut(), &organization, old).await?;
    eprintln!("{}: deleted the stale copy in {old}", organization.name);
    Ok(true)
}
