//! Completes or cancels a move whose command has ended.

use pg::Client;

use super::{begin::delete_changes, stale_copy};
use crate::cli::{
    Failure,
    tenant::{locks::exclusively, organization::Organization, placement::Placement},
};

/// Completes an interrupted switch between databases: the new placement accepts what the old one
/// has released. Servers do the same. Returns whether the organization has returned to the control
/// database. Fails if the databases contradict each other.
pub(super) async fn finish(
    control: &Client,
    there: &Client,
    organization: &Organization,
) -> Result<bool, Failure> {
    let Organization { id, name, placement, generation, moving_to, .. } = organization;
    let known = Organization::get(there, *id).await?;
    match (placement, &known.placement, known.generation - generation) {
        (Placement::Database(_), Placement::Shared, 0)
        | (Placement::Shared | Placement::Schema, Placement::Elsewhere, _) => Ok(false),
        (Placement::Database(_), Placement::Elsewhere, 0) => {
            let accept = "SELECT app.accept_organization($1, $2)";
            there.execute(accept, &[id, &known.generation]).await?;
            Ok(false)
        }
        (Placement::Database(_), Placement::Elsewhere, 1) if moving_to.is_some() => {
            let accept = "SELECT app.accept_organization($1, $2)";
            control.execute(accept, &[id, &known.generation]).await?;
            Ok(true)
        }
        _ => Err(Failure::new(format!(
            "the databases disagree about {name}: in the control database it lives in {placement} (generation {generation}), in the dedicated database in {} (generation {}). Restore both to a consistent state.",
            known.placement, known.generation
        ))),
    }
}

/// Cancels a move. The organization stays where it is, and the copy is deleted.
pub(super) async fn cancel(
    control: &mut Client,
    mut there: Option<&mut Client>,
    organization: &Organization,
    target: &Placement,
) -> Result<(), Failure> {
    let id = organization.id;
    if let (Some(_), Some(there)) = (organization.placement.database(), &mut there) {
        let sql = "UPDATE app.placements SET moving_to = NULL WHERE organization_id = $1 AND placement = 'shared'";
        exclusively(there, "cancelling the move", Some(id), async |there| {
            there.execute(sql, &[&id]).await?;
            Ok(delete_changes(there, id).await?)
        })
        .await?;
    }
    let sql = "UPDATE app.placements SET moving_to = NULL, old_placement = $2, keep_old_until = now() WHERE organization_id = $1";
    exclusively(control, "cancelling the move", Some(id), async |control| {
        control.execute(sql, &[&id, &target.name()]).await?;
        Ok(delete_changes(control, id).await?)
    })
    .await?;
    stale_copy::remove(control, there, organization, target).await
}
