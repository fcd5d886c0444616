//! Cancels a move.

use pg::Client;

use super::{begin::delete_changes, cross_database, stale_copy};
use crate::cli::{
    Failure,
    tenant::{
        locks::{exclude_writers, retry_on_conflict},
        organization::Organization,
        placement::Placement,
    },
};

/// The organization stays where it is, and the copy is deleted.
pub(super) async fn cancel(
    connection: &mut Client,
    mut there: Option<&mut Client>,
    organization: &Organization,
    target: &Placement,
) -> Result<(), Failure> {
    if let (Some(_), Some(there)) = (organization.placement.database(), &mut there) {
        cross_database::stop(there, organization).await?;
    }
    retry_on_conflict(connection, "cancelling the move", async |connection| {
        let transaction = connection.begin().await?;
        exclude_writers(&transaction, organization.id).await?;
        transaction
            .execute(
                "UPDATE app.placements SET moving_to = NULL, old_placement = $2, keep_old_until = now() WHERE organization_id = $1",
                &[&organization.id, &target.name()],
            )
            .await?;
        delete_changes(&transaction, organization.id).await?;
        transaction.commit().await
    })
    .await?;
    stale_copy::remove(connection, there, organization, target).await
}
