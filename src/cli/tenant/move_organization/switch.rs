//! The switch: excludes writers for a moment, applies the last pending changes and changes the
//! placement, in one transaction.
//!
//! Between databases, the old placement releases the organization in one transaction that excludes
//! writers. Before it commits, the last changes are committed at the new placement, which accepts
//! the organization afterwards. Any server can complete that last step.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use pg::Client;
use uuid::Uuid;

use super::{
    begin::delete_changes,
    changes::Changed,
    directory_sync::sync_directory,
    organization_move::{MoveConnections, OrganizationMove},
    responses::copy_responses,
    users,
};
use crate::{
    audit::Action,
    cli::{
        Failure,
        tenant::{
            locks::{AttemptError, exclude_maintenance, exclude_writers, retry_on_conflict},
            structure::structure_faults,
        },
    },
};

/// More pending changes would pause writers for too long.
const MOST_CHANGES: i64 = 2_000;

const COPYING: &str = "SET LOCAL app.replicating = 'on'";

/// What a switch records, and what it still has to copy.
pub(super) struct SwitchTerms {
    /// The days for which the stale copy is kept.
    pub(super) keep_days: u16,
    /// The number of compared rows.
    pub(super) count: i64,
    /// The transaction since which responses are copied.
    pub(super) responses_since: Option<String>,
}

/// The exclusion of writers during a switch.
pub(super) struct WriterExclusion {
    /// How long writers waited together with the switch for earlier transactions.
    pub(super) waited: Duration,
    pub(super) started: Instant,
    /// How many changes were pending when it started.
    pub(super) changes: i64,
}

impl WriterExclusion {
    /// Begins in a transaction at the source. Returns `None` if too many changes are pending.
    async fn begin(source: &Client, organization: Uuid) -> Result<Option<Self>, AttemptError> {
        let waited = exclude_writers(source, organization).await?;
        let started = Instant::now();
        let count = "SELECT count(*) FROM app.pending_changes WHERE organization_id = $1";
        let changes = source.query_one(count, &[&organization]).await?;
        Ok((changes <= MOST_CHANGES).then_some(Self { waited, started, changes }))
    }
}

impl OrganizationMove {
    /// Returns `None` if too many changes are pending: apply them first.
    pub(super) async fn switch(
        &self,
        connections: &mut MoveConnections<'_>,
        terms: &SwitchTerms,
    ) -> Result<Option<WriterExclusion>, Failure> {
        self.check_structure(connections).await?;
        retry_on_conflict(
            connections,
            "switching",
            async |connections: &mut MoveConnections<'_>| {
                let outcome = match connections {
                    MoveConnections::Within(control) => self.switch_within(control, terms).await,
                    MoveConnections::ToDedicated { control, dedicated } => {
                        self.release(control, dedicated, terms).await
                    }
                    MoveConnections::FromDedicated { control, dedicated } => {
                        self.accept(control, dedicated, terms).await
                    }
                };
                if !matches!(outcome, Ok(Some(_))) {
                    connections.roll_back().await?;
                }
                outcome
            },
        )
        .await
    }

    /// Refuses a schema that differs from the shared tables. Rows are read and written by the order
    /// of the columns, so a move checks it before it copies.
    pub(super) async fn check_structure(
        &self,
        connections: &mut MoveConnections<'_>,
    ) -> Result<(), Failure> {
        let MoveConnections::Within(control) = connections else { return Ok(()) };
        let faults = structure_faults(control, self.organization.id).await?;
        faults.first().map_or(Ok(()), |fault| {
            Err(Failure::new(format!("the schema differs from the shared tables: {fault}")))
        })
    }

    /// Switches within the control database.
    async fn switch_within(
        &self,
        control: &mut Client,
        terms: &SwitchTerms,
    ) -> Result<Option<WriterExclusion>, AttemptError> {
        let control = control.begin().await?;
        let Some(exclusion) = WriterExclusion::begin(&control, self.organization.id).await? else {
            return Ok(None);
        };
        let (_, last) = self.changed_keys(&control).await?;
        self.apply_last(&control, last).await?;
        self.set_placement(&control, self.organization.generation, terms).await?;
        let what = ("tenantry tenant move", Action::OrganizationMoved);
        let metadata = self.metadata(terms.count);
        self.organization.record(&control, &self.target, what, metadata).await?;
        control.commit().await?;
        Ok(Some(exclusion))
    }

    /// The control database releases the organization to the dedicated database.
    async fn release(
        &self,
        control: &mut Client,
        there: &mut Client,
        terms: &SwitchTerms,
    ) -> Result<Option<WriterExclusion>, AttemptError> {
        let id = self.organization.id;
        let there = there.begin().await?;
        exclude_maintenance(&there).await?;
        let control = control.begin().await?;
        let Some(exclusion) = WriterExclusion::begin(&control, id).await? else { return Ok(None) };
        let (_, last) = self.read_changes(&control).await?;
        for one in &last {
            one.copy_users(&control, &there).await?;
        }
        // From here on changes of members wait for the switch.
        let members = users::members(&control, id, "FOR SHARE OF u").await?;
        let outdated = users::outdated_users(&there, &members).await?;
        users::copy(&control, &there, &outdated).await?;
        there.batch(COPYING).await?;
        self.write_changes(&there, &last).await?;
        // A suspension cannot change while writers are excluded.
        let suspension =
            "SELECT suspension, suspended_at FROM app.placements WHERE organization_id = $1";
        let (suspension, suspended_at): (Option<String>, Option<DateTime<Utc>>) =
            control.query_one(suspension, &[&id]).await?;
        copy_responses(&control, &there, id, terms.responses_since.as_deref()).await?;
        copy_slugs(&control, &there, id).await?;
        let ready = there
            .execute(
                "UPDATE app.placements SET move_metadata = $3, suspension = $4, suspended_at = $5
                 WHERE organization_id = $1 AND generation = $2 AND placement = 'remote'",
                &[&id, &self.generation(), &self.metadata(terms.count), &suspension, &suspended_at],
            )
            .await?;
        self.require_placed(ready)?;
        there.commit().await?;
        self.set_placement(&control, self.generation(), terms).await?;
        control.commit().await?;
        Ok(Some(exclusion))
    }

    /// The control database accepts the organization from the dedicated database.
    async fn accept(
        &self,
        control: &mut Client,
        there: &mut Client,
        terms: &SwitchTerms,
    ) -> Result<Option<WriterExclusion>, AttemptError> {
        let id = self.organization.id;
        let control = control.begin().await?;
        exclude_maintenance(&control).await?;
        let there = there.begin().await?;
        let Some(exclusion) = WriterExclusion::begin(&there, id).await? else { return Ok(None) };
        sync_directory(&control, &there, &self.organization).await?;
        let (_, last) = self.read_changes(&there).await?;
        self.apply_last(&control, last).await?;
        copy_responses(&there, &control, id, terms.responses_since.as_deref()).await?;
        // Maintenance may have recorded changes of directory rows in the control database.
        delete_changes(&control, id).await?;
        let ready = control
            .execute(
                "UPDATE app.placements SET move_metadata = $3, keep_old_until = now() + $4 * interval '1 day'
                 WHERE organization_id = $1 AND generation = $2 - 1 AND placement = $5 AND moving_to = 'shared'",
                &[&id, &self.generation(), &self.metadata(terms.count), &i32::from(terms.keep_days), &self.organization.placement.name()],
            )
            .await?;
        self.require_placed(ready)?;
        control.commit().await?;
        delete_changes(&there, id).await?;
        let released = there
            .execute(
                "UPDATE app.placements SET placement = 'remote', generation = $2, moving_to = NULL, moved_at = now()
                 WHERE organization_id = $1 AND placement = 'shared' AND moving_to = 'remote' AND generation = $2 - 1",
                &[&id, &self.generation()],
            )
            .await?;
        self.require_placed(released)?;
        there.commit().await?;
        Ok(Some(exclusion))
    }

    /// Applies the last changes, and compares those that the move does not copy.
    async fn apply_last(
        &self,
        target: &Client,
        last: Vec<Changed<'_>>,
    ) -> Result<(), AttemptError> {
        let (copied, mirrored): (Vec<_>, Vec<_>) =
            last.into_iter().partition(|one| self.copies(one.rows));
        target.batch(COPYING).await?;
        self.write_changes(target, &copied).await?;
        self.check_changes(target, &mirrored).await
    }

    /// Makes the target the current placement, in the control database.
    async fn set_placement(
        &self,
        control: &Client,
        generation: i64,
        terms: &SwitchTerms,
    ) -> Result<(), AttemptError> {
        let Self { organization, target, .. } = self;
        delete_changes(control, organization.id).await?;
        let placed = control
            .execute(
                "UPDATE app.placements SET placement = $2, generation = $3, moving_to = NULL, moved_at = now(), old_placement = placement,
                    keep_old_until = now() + $4 * interval '1 day'
                 WHERE organization_id = $1 AND placement = $5 AND moving_to = $2 AND generation = $6",
                &[
                    &organization.id,
                    &target.name(),
                    &generation,
                    &i32::from(terms.keep_days),
                    &organization.placement.name(),
                    &organization.generation,
                ],
            )
            .await?;
        Ok(self.require_placed(placed)?)
    }
}

/// Copies the organization's slugs and deletes others that the dedicated database still has. The
/// control database decides which slugs an organization has.
async fn copy_slugs(control: &Client, there: &Client, organization: Uuid) -> pg::Result<()> {
    let read = "SELECT s::text FROM app.organization_slugs s WHERE s.organization_id = $1";
    let slugs: Vec<String> = control.query(read, &[&organization]).await?;
    there
        .execute(
            "WITH read AS MATERIALIZED (SELECT v::app.organization_slugs AS whole FROM unnest($2::text[]) v),
                  gone AS (DELETE FROM app.organization_slugs s WHERE s.organization_id = $1
                               AND NOT EXISTS (SELECT FROM read WHERE (whole).slug = s.slug))
             INSERT INTO app.organization_slugs AS s SELECT (whole).* FROM read WHERE (whole).organization_id = $1
             ON CONFLICT (slug) DO UPDATE SET organization_id = $1, retired_at = excluded.retired_at, claimed_by = excluded.claimed_by,
                 created_at = excluded.created_at, updated_at = excluded.updated_at",
            &[&organization, &slugs],
        )
        .await?;
    Ok(())
}
