//! The switch: excludes writers for a moment, applies the last pending changes and changes the
//! placement, all in one transaction.

use std::time::{Duration, Instant};

use pg::Client;
use serde_json::json;
use uuid::Uuid;

use super::{begin::delete_changes, changes::check, organization_move::OrganizationMove};
use crate::{
    audit::Action,
    cli::{
        Failure,
        tenant::{
            locks::{exclude_writers, retry_on_conflict},
            structure::structure_faults,
        },
    },
};

/// More pending changes would pause writers for too long.
pub(super) const MOST_CHANGES: i64 = 2_000;

/// The result of a switch.
pub(super) struct Switched {
    pub(super) changes: i64,
    /// How long writers waited together with the switch for earlier transactions.
    pub(super) waited: Duration,
    /// How long the switch excluded writers.
    pub(super) held: Duration,
}

impl OrganizationMove {
    /// `None` if too many changes are pending: apply them first.
    pub(super) async fn switch(
        &self,
        connection: &mut Client,
        keep_days: u16,
        count: i64,
    ) -> Result<Option<Switched>, Failure> {
        let schema_faults = structure_faults(connection, self.organization.id).await?;
        if let Some(fault) = schema_faults.first() {
            return Err(Failure::new(format!(
                "the schema differs from the shared tables: {fault}"
            )));
        }
        retry_on_conflict(connection, "switching", async |connection| {
            self.try_switch(connection, keep_days, count).await
        })
        .await?
    }

    async fn try_switch(
        &self,
        connection: &mut Client,
        keep_days: u16,
        count: i64,
    ) -> pg::Result<Result<Option<Switched>, Failure>> {
        let id = self.organization.id;
        let transaction = connection.begin().await?;
        let waited = exclude_writers(&transaction, id).await?;
        let started = Instant::now();
        let changes = pending(&transaction, id).await?;
        if changes > MOST_CHANGES {
            return Ok(Ok(None));
        }
        let round = self.apply_changes(&transaction).await?;
        if let Err(failure) = check(&round.faults) {
            return Ok(Err(failure));
        }
        self.settle(&transaction, keep_days).await?;
        let metadata = json!({
            "from": self.organization.placement.name(), "to": self.target.name(), "rows": count,
        });
        let what = ("tenantry tenant move", Action::OrganizationMoved);
        self.organization.record(&transaction, &self.target, what, metadata).await?;
        transaction.commit().await?;
        Ok(Ok(Some(Switched { changes, waited, held: started.elapsed() })))
    }

    /// Makes the target the current placement.
    async fn settle(&self, transaction: &Client, keep_days: u16) -> pg::Result<()> {
        delete_changes(transaction, self.organization.id).await?;
        transaction
            .execute(
                "UPDATE app.placements SET placement = $2, moving_to = NULL, moved_at = now(), old_placement = placement,
                    keep_old_until = now() + $3 * interval '1 day'
             WHERE organization_id = $1",
                &[&self.organization.id, &self.target.name(), &i32::from(keep_days)],
            )
            .await?;
        Ok(())
    }
}

/// Returns how many changes are pending.
pub(super) async fn pending(connection: &Client, organization: Uuid) -> pg::Result<i64> {
    connection
        .query_one(
            "SELECT count(*) FROM app.pending_changes WHERE organization_id = $1",
            &[&organization],
        )
        .await
}
