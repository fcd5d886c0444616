//! `tenantry tenant prune`

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Failure, patience::become_mover, place::Organization, relocation::leftover};
use crate::{cli::say, clock::Clock};

/// Delete the copies that moves have left behind, once their time is over: call it every day, for example from cron.
#[derive(Debug, clap::Args)]
pub(super) struct Prune {}

impl Prune {
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<(), Failure> {
        let over: Vec<Uuid> = sqlx::query_scalar(
            "SELECT organization_id FROM app.placements
             WHERE moving_to IS NULL AND old_home IS NOT NULL AND keep_old_until <= now() ORDER BY keep_old_until",
        )
        .fetch_all(&mut *connection)
        .await?;
        let (now, mut count) = (Clock::system().now(), 0);
        for id in over {
            let organization = Organization::get(connection, id).await?;
            become_mover(connection, &organization).await?;
            let organization = Organization::get(connection, id).await?;
            let over = organization.keep_old_until.is_some_and(|until| until <= now);
            if let (None, Some(old), true) = (organization.moving_to, organization.old_home, over) {
                leftover::remove(connection, &organization, old).await?;
                eprintln!("{}: the old copy in {old} is deleted", organization.name);
                count += 1;
            }
        }
        say(format!("deleted {count} old copies"));
        Ok(())
    }
}
