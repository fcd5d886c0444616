//! Starts and cancels a move. Writers read `moving_to` in the placement to know whether they must
//! record their changes.

use migration::placement;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{cross_database, stale_copy};
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
    connection: &mut PgConnection,
    organization: Uuid,
    target: &Placement,
) -> Result<(), Failure> {
    retry_on_conflict(connection, "starting the move", async |connection| {
        let mut transaction = connection.begin().await?;
        exclude_writers(&mut transaction, organization).await?;
        delete_changes(&mut transaction, organization).await?;
        sqlx::query(
            "INSERT INTO app.placements (organization_id, placement) VALUES ($1, 'shared') ON CONFLICT DO NOTHING",
        )
        .bind(organization)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "UPDATE app.placements SET moving_to = $2, old_placement = $2, keep_old_until = now() WHERE organization_id = $1",
        )
        .bind(organization)
        .bind(target.name())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    })
    .await
}

/// Clears the target, or keeps a copy that an interrupted run of this move has begun.
pub(super) async fn prepare(
    connection: &mut PgConnection,
    organization: Uuid,
    target: &Placement,
) -> Result<(), Failure> {
    let now = Organization::get(connection, organization).await?;
    if now.old_placement.as_ref() == Some(target) {
        stale_copy::remove(connection, None, &now, target).await?;
    } else if *target == Placement::Shared
        || now.version.as_deref() == Some(placement::SCHEMA_VERSION)
    {
        return Ok(());
    }
    if *target == Placement::Shared {
        return Ok(());
    }
    retry_on_conflict(connection, "creating the schema", async |connection| {
        let mut transaction = connection.begin().await?;
        exclude_maintenance(&mut transaction).await?;
        placement::remove(&mut transaction, organization).await?;
        let version = placement::create(&mut transaction, organization).await?;
        sqlx::query("UPDATE app.placements SET version = $2 WHERE organization_id = $1")
            .bind(organization)
            .bind(version)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    })
    .await
}

/// Cancels the move: the organization stays where it is, and the copy is deleted.
pub(super) async fn cancel(
    connection: &mut PgConnection,
    mut there: Option<&mut PgConnection>,
    organization: &Organization,
    target: &Placement,
) -> Result<(), Failure> {
    if let (Some(_), Some(there)) = (organization.placement.database(), &mut there) {
        cross_database::stop(there, organization).await?;
    }
    retry_on_conflict(connection, "cancelling the move", async |connection| {
        let mut transaction = connection.begin().await?;
        exclude_writers(&mut transaction, organization.id).await?;
        sqlx::query(
            "UPDATE app.placements SET moving_to = NULL, old_placement = $2, keep_old_until = now() WHERE organization_id = $1",
        )
        .bind(organization.id)
        .bind(target.name())
        .execute(&mut *transaction)
        .await?;
        delete_changes(&mut transaction, organization.id).await?;
        transaction.commit().await
    })
    .await?;
    stale_copy::remove(connection, there, organization, target).await
}

pub(super) async fn delete_changes(
    connection: &mut PgConnection,
    organization: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM app.pending_changes WHERE organization_id = $1")
        .bind(organization)
        .execute(connection)
        .await?;
    Ok(())
}
