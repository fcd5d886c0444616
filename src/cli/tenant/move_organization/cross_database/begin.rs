//! Starts and cancels a cross-database move, and completes one that was interrupted during its
//! switch.

use pg::Client;

use super::{
    super::{begin, stale_copy},
    cross_database_move::{CrossDatabaseMove, Endpoints, elsewhere},
};
use crate::cli::{
    Failure,
    tenant::{
        locks::{exclude_writers, retry_on_conflict},
        organization::Organization,
        placement::Placement,
    },
};

/// What an interrupted switch still needed.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Finished {
    Nothing,
    TakenIn,
    TakenBack,
}

/// Completes an interrupted switch: the new placement accepts what the old one has released.
/// Servers do the same. Fails if the databases contradict each other.
pub(in super::super) async fn finish(
    ends: &mut Endpoints<'_>,
    organization: &Organization,
) -> Result<Finished, Failure> {
    let Organization { id, name, placement, generation, .. } = organization;
    let there = Organization::get(ends.there, *id).await?;
    let taken = match (placement, &there.placement, there.generation - generation) {
        (Placement::Database(_), Placement::Shared, 0)
        | (Placement::Shared | Placement::Schema, Placement::Elsewhere, _) => {
            return Ok(Finished::Nothing);
        }
        (Placement::Database(_), Placement::Elsewhere, 0) => {
            ends.there
                .execute("SELECT app.accept_organization($1, $2)", &[id, &there.generation])
                .await?;
            Finished::TakenIn
        }
        (Placement::Database(_), Placement::Elsewhere, 1) if organization.moving_to.is_some() => {
            ends.control
                .execute("SELECT app.accept_organization($1, $2)", &[id, &there.generation])
                .await?;
            Finished::TakenBack
        }
        _ => {
            return Err(Failure::new(format!(
                "the databases disagree about {name}: in the control database it lives in {placement} (generation {generation}), in the dedicated database in {} (generation {}). Restore both to a consistent state.",
                there.placement, there.generation
            )));
        }
    };
    Ok(taken)
}

/// Ends the recording of changes in the dedicated database, because the organization stays there.
pub(in super::super) async fn stop(
    there: &mut Client,
    organization: &Organization,
) -> Result<(), Failure> {
    retry_on_conflict(there, "cancelling the move", async |there: &mut Client| {
        let transaction = there.begin().await?;
        exclude_writers(&transaction, organization.id).await?;
        transaction
            .execute(
                "UPDATE app.placements SET moving_to = NULL WHERE organization_id = $1 AND placement = 'shared'",
                &[&organization.id],
            )
            .await?;
        begin::delete_changes(&transaction, organization.id).await?;
        transaction.commit().await
    })
    .await
}

impl CrossDatabaseMove {
    /// Whether writers already record changes, so that the copy belongs to this move.
    pub(super) async fn is_begun(&self, ends: &mut Endpoints<'_>) -> Result<bool, Failure> {
        let organization = self.organization();
        let there = Organization::get(ends.there, organization.id).await?;
        Ok(organization.moving_to.is_some() && (self.out || there.moving_to.is_some()))
    }

    /// Starts the move. From here on changes are recorded at the source.
    pub(super) async fn begin(&self, ends: &mut Endpoints<'_>) -> Result<(), Failure> {
        let id = self.organization().id;
        begin::begin(ends.control, id, &self.move_organization.target).await?;
        if self.out {
            return Ok(());
        }
        let started = retry_on_conflict(ends.there, "starting the move", async |there: &mut Client| {
            let transaction = there.begin().await?;
            exclude_writers(&transaction, id).await?;
            begin::delete_changes(&transaction, id).await?;
            let started = transaction
                .execute(
                    "UPDATE app.placements SET moving_to = $2 WHERE organization_id = $1 AND placement = 'shared' AND generation = $3",
                    &[&id, &elsewhere(), &(self.generation - 1)],
                )
                .await?;
            transaction.commit().await?;
            Ok(started)
        })
        .await?;
        if started == 1 { Ok(()) } else { Err(self.interrupted()) }
    }

    /// Clears rows at the target that are not a copy of this move, and introduces the organization
    /// to the dedicated database.
    pub(super) async fn prepare(&self, ends: &mut Endpoints<'_>) -> Result<(), Failure> {
        let now = Organization::get(ends.control, self.organization().id).await?;
        if now.old_placement.as_ref() == Some(&self.move_organization.target) {
            stale_copy::remove(
                ends.control,
                Some(ends.there),
                &now,
                &self.move_organization.target,
            )
            .await?;
        }
        if !self.out {
            return Ok(());
        }
        let transaction = ends.there.begin().await?;
        transaction.batch("SET LOCAL app.replicating = 'on'").await?;
        let known = transaction
            .execute(
                "INSERT INTO app.placements AS p (organization_id, placement, generation) VALUES ($1, 'remote', $2)
             ON CONFLICT (organization_id) DO UPDATE SET generation = $2, move_metadata = NULL WHERE p.placement = 'remote'",
                &[&now.id, &self.generation],
            )
            .await?;
        transaction.commit().await?;
        if known == 1 { Ok(()) } else { Err(self.interrupted()) }
    }

    pub(super) fn interrupted(&self) -> Failure {
        Failure::new(format!(
            "another process changed the placement of {}. Run the command again.",
            self.organization().name
        ))
    }
}
