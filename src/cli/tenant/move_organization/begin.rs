//! Starts a move. Writers read `moving_to` in the placement to know whether they must
//! record their changes.

use migration::placement::{self, SCHEMA_VERSION};
use pg::Client;
use uuid::Uuid;

use super::{
    organization_move::{MoveConnections, OrganizationMove},
    stale_copy,
};
use crate::cli::{
    Failure,
    tenant::{
        locks::{begin_copying, exclusively},
        organization::Organization,
        placement::Placement,
    },
};

impl OrganizationMove {
    /// Whether writers already record changes, so that the copy belongs to this move.
    pub(super) async fn is_begun(
        &self,
        connections: &MoveConnections<'_>,
    ) -> Result<bool, Failure> {
        let is_begun = self.organization.moving_to.is_some();
        if let MoveConnections::FromDedicated { dedicated, .. } = connections {
            let there = Organization::get(dedicated, self.organization.id).await?;
            return Ok(is_begun && there.moving_to.is_some());
        }
        Ok(is_begun)
    }

    /// Starts the move. From here on writers record their changes at the source. The target counts
    /// as a stale copy until it has been cleared.
    pub(super) async fn begin(&self, connections: &mut MoveConnections<'_>) -> Result<(), Failure> {
        let id = self.organization.id;
        exclusively(connections.control(), "starting the move", Some(id), async |control| {
            delete_changes(control, id).await?;
            control
                .execute(
                    "INSERT INTO app.placements (organization_id, placement) VALUES ($1, 'shared') ON CONFLICT DO NOTHING",
                    &[&id],
                )
                .await?;
            control
                .execute(
                    "UPDATE app.placements SET moving_to = $2, old_placement = $2, keep_old_until = now() WHERE organization_id = $1",
                    &[&id, &self.target.name()],
                )
                .await?;
            Ok(())
        })
        .await?;
        let MoveConnections::FromDedicated { dedicated, .. } = connections else { return Ok(()) };
        let started = exclusively(dedicated, "starting the move", Some(id), async |there| {
            delete_changes(there, id).await?;
            let started = there
                .execute(
                    "UPDATE app.placements SET moving_to = $2
                     WHERE organization_id = $1 AND placement = 'shared' AND generation = $3",
                    &[&id, &Placement::Elsewhere.name(), &self.organization.generation],
                )
                .await?;
            Ok(started)
        });
        self.require_placed(started.await?)
    }

    /// Clears rows at the target that are not a copy of this move. Creates the schema, or
    /// introduces the organization to the dedicated database.
    pub(super) async fn prepare(
        &self,
        connections: &mut MoveConnections<'_>,
    ) -> Result<(), Failure> {
        let now = Organization::get(connections.control(), self.organization.id).await?;
        let is_stale = now.old_placement.as_ref() == Some(&self.target);
        if is_stale {
            let (control, dedicated) = connections.each();
            stale_copy::remove(control, dedicated, &now, &self.target).await?;
        }
        let is_outdated = is_stale || now.version.as_ref() != Some(&*SCHEMA_VERSION);
        match connections {
            MoveConnections::ToDedicated { dedicated, .. } => self.introduce(dedicated).await,
            MoveConnections::Within(control) if is_outdated && self.target == Placement::Schema => {
                create_schema(control, now.id).await
            }
            _ => Ok(()),
        }
    }

    async fn introduce(&self, there: &mut Client) -> Result<(), Failure> {
        let transaction = begin_copying(there).await?;
        let known = transaction
            .execute(
                "INSERT INTO app.placements AS p (organization_id, placement, generation) VALUES ($1, 'remote', $2)
                 ON CONFLICT (organization_id) DO UPDATE SET generation = $2, move_metadata = NULL WHERE p.placement = 'remote'",
                &[&self.organization.id, &self.generation()],
            )
            .await?;
        transaction.commit().await?;
        self.require_placed(known)
    }
}

async fn create_schema(control: &mut Client, organization: Uuid) -> Result<(), Failure> {
    exclusively(control, "creating the schema", None, async |control| {
        placement::remove(control, organization).await?;
        let version = placement::create(control, organization).await?;
        let store = "UPDATE app.placements SET version = $2 WHERE organization_id = $1";
        control.execute(store, &[&organization, &version]).await?;
        Ok(())
    })
    .await
}

pub(super) async fn delete_changes(connection: &Client, organization: Uuid) -> pg::Result<()> {
    let delete = "DELETE FROM app.pending_changes WHERE organization_id = $1";
    connection.execute(delete, &[&organization]).await?;
    Ok(())
}
