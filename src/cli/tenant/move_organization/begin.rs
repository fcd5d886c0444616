//! Starts a move. Writers read `moving_to` in the placement to know whether they must
//! record their changes.

use migration::placement;
use pg::Client;
use uuid::Uuid;

use super::stale_copy;
use crate::cli::{
    Failure,
    tenant::{
        locks::{exclude_maintenance, exclude_writers, retry_on_conflict},
        organization::Organization,
        placement::Placement,
    },
};

/// Starts the move. From here on writers record their changes. The target counts as a stale copy
/// until it has been cleared.
pub(super) async fn begin(
    connection: &mut Client,
    organization: Uuid,
    target: &Placement,
) -> Result<(), Failure> {
    retry_on_conflict(connection, "starting the move", async |connection| {
        let transaction = connection.begin().await?;
        exclude_writers(&transaction, organization).await?;
        delete_changes(&transaction, organization).await?;
        transaction
            .execute(
                "INSERT INTO app.placements (organization_id, placement) VALUES ($1, 'shared') ON CONFLICT DO NOTHING",
                &[&organization],
            )
            .await?;
        transaction
            .execute(
                "UPDATE app.placements SET moving_to = $2, old_placement = $2, keep_old_until = now() WHERE organization_id = $1",
                &[&organization, &target.name()],
            )
            .await?;
        transaction.commit().await
    })
    .await
}

/// Clears the target, or keeps a copy that an interrupted run of this move has begun.
pub(super) async fn prepare(
    connection: &mut Client,
    organization: Uuid,
    target: &Placement,
) -> Result<(), Failure> {
    let now = Organization::get(connection, organization).await?;
    if now.old_placement.as_ref() == Some(target) {
        stale_copy::remove(connection, None, &now, target).await?;
    } else if *target == Placement::Shared
        || now.version.as_deref() == Some(placement::SCHEMA_VERSION.as_str())
    {
        return Ok(());
    }
    if *target == Placement::Shared {
        return Ok(());
    }
    retry_on_conflict(connection, "creating the schema", async |connection| {
        let transaction = connection.begin().await?;
        exclude_maintenance(&transaction).await?;
        placement::remove(&transaction, organization).await?;
        let version = placement::create(&transaction, organization).await?;
        transaction
            .execute(
                "UPDATE app.placements SET version = $2 WHERE organization_id = $1",
                &[&organization, &version],
            )
            .await?;
        transaction.commit().await
    })
    .await
}

pub(super) async fn delete_changes(connection: &Client, organization: Uuid) -> pg::Result<()> {
    connection
        .execute("DELETE FROM app.pending_changes WHERE organization_id = $1", &[&organization])
        .await?;
    Ok(())
}
