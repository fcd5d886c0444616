//! Runs a command's change in the database where the organization lives. The organization cannot
//! move until the change is committed.

use pg::Client;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Failure,
    locks::exclude_moves,
    organization::{self, Organization},
    placement::Placement,
};
use crate::{
    audit::Action,
    cli::owner_connection::Owner,
    tenancy::{Change, ChangeFeed},
};

/// An organization and the transactions of a change.
pub(super) struct PlacedOrganization<'t> {
    pub(super) organization: &'t Organization,
    pub(super) control: &'t Client,
    /// The organization's database, which may be the control database, and its placement there.
    pub(super) connection: &'t Client,
    pub(super) placement: &'t Placement,
}

impl PlacedOrganization<'_> {
    /// Records an action in the organization's audit log.
    pub(super) async fn record(&self, what: (&str, Action), metadata: Value) -> pg::Result<()> {
        self.organization.record(self.connection, self.placement, what, metadata).await
    }

    /// A table of organizations, at the organization's placement.
    pub(super) fn table(&self, name: &str) -> String {
        self.placement.table_named(name, self.organization.id)
    }
}

/// Makes a change and reports it to subscribers. A dedicated database commits first. A command that
/// is interrupted before the control database commits can be repeated.
pub(super) async fn change_in_place<T>(
    owner: &Owner,
    control: &mut Client,
    organization: &str,
    change: Change,
    make: impl AsyncFnOnce(PlacedOrganization<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let id = Organization::find(control, organization).await?.id;
    let transaction = control.begin().await?;
    let control: &Client = &transaction;
    lock_placement(control, id).await?;
    // From here on the placement cannot change.
    let organization = &Organization::get(control, id).await?;
    if organization.ended {
        return Err(Failure::new(format!("the organization {} is deleted", organization.name)));
    }
    let done = if let Some(database) = organization.placement.database() {
        let mut there = organization::dedicated(owner, database).await?;
        let there = there.begin().await?;
        lock_placement(&there, id).await?;
        let (connection, placement): (&Client, _) = (&there, &Placement::Shared);
        let done =
            make(PlacedOrganization { organization, control, connection, placement }).await?;
        there.commit().await?;
        done
    } else {
        let (connection, placement) = (control, &organization.placement);
        make(PlacedOrganization { organization, control, connection, placement }).await?
    };
    let (channel, notice) = ChangeFeed::notification(Some(id), change)?;
    control.execute("SELECT pg_notify($1, $2)", &[&channel, &notice]).await?;
    transaction.commit().await?;
    Ok(done)
}

/// Locks as every writer does: the organization does not move, and a running move records what is
/// written.
async fn lock_placement(connection: &Client, organization: Uuid) -> pg::Result<()> {
    exclude_moves(connection).await?;
    connection
        .execute("SELECT pg_advisory_xact_lock_shared(app.placement_lock($1))", &[&organization])
        .await?;
    connection
        .execute(
            "SELECT set_config('app.moving', 'on', true)
             FROM app.placements WHERE organization_id = $1 AND moving_to IS NOT NULL",
            &[&organization],
        )
        .await?;
    Ok(())
}
