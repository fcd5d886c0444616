//! `tenantry tenant prune`

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    Failure,
    locks::become_mover,
    move_organization::{open, stale_copy},
    organization::Organization,
};
use crate::{
    cli::{owner::Owner, say},
    clock::Clock,
};

/// Delete the copies that moves have left behind, once their time is over: call it every day, for
/// example from cron.
#[derive(Debug, clap::Args)]
pub(super) struct Prune {}

impl Prune {
    pub(super) async fn run(
        self,
        owner: &Owner,
        connection: &mut PgConnection,
    ) -> Result<(), Failure> {
        let over: Vec<Uuid> = sqlx::query_scalar(
            "SELECT organization_id FROM app.placements
             WHERE moving_to IS NULL AND old_home IS NOT NULL AND keep_old_until <= now() ORDER BY keep_old_until",
        )
        .fetch_all(&mut *connection)
        .await?;
        let (mut count, mut failed) = (0, 0);
        for id in over {
            match prune(owner, connection, id).await {
                Ok(true) => count += 1,
                Ok(false) => {}
                // One database that cannot be reached keeps no copies in others.
                Err(failure) => {
                    eprintln!("{id}: {failure}");
                    failed += 1;
                }
            }
        }
        say(format!("deleted {count} old copies"));
        match failed {
            0 => Ok(()),
            failed => Err(Failure::new(format!("{failed} old copies could not be deleted"))),
        }
    }
}

async fn prune(owner: &Owner, connection: &mut PgConnection, id: Uuid) -> Result<bool, Failure> {
    let organization = Organization::get(connection, id).await?;
    become_mover(connection, &organization).await?;
    let organization = Organization::get(connection, id).await?;
    let now = Clock::system().now();
    let over = organization.keep_old_until.is_some_and(|until| until <= now);
    let (None, Some(old), true) = (&organization.moving_to, &organization.old_home, over) else {
        return Ok(false);
    };
    let mut there = match old.database() {
        Some(name) => Some(open(owner, &organization, name).await?),
        None => None,
    };
    stale_copy::remove(connection, there.as_mut(), &organization, old).await?;
    eprintln!("{}: the old copy in {old} is deleted", organization.name);
    Ok(true)
}
