//! The switch between databases. The old placement releases the organization in one transaction
//! that excludes writers. Before it commits, the last changes are committed at the new placement,
//! which accepts the organization afterwards. Any server can complete that last step.

use std::time::Instant;

use chrono::{DateTime, Utc};
use pg::Client;
use serde_json::json;

use super::{
    super::{
        begin::delete_changes,
        changes::check,
        switch::{MOST_CHANGES, Switched, pending},
    },
    changes::Changed,
    cross_database_move::{CrossDatabaseMove, Endpoints},
    idempotency_keys::copy_responses,
    users,
};
use crate::cli::{
    Failure,
    tenant::locks::{exclude_maintenance, exclude_writers, retry_on_conflict},
};

/// The days for which the stale copy is kept, the number of compared rows, and the transaction
/// since which responses are copied.
type SwitchTerms<'t> = (u16, i64, &'t str);

impl CrossDatabaseMove {
    /// `None` if too many changes are pending: apply them first.
    pub(super) async fn switch(
        &self,
        ends: &mut Endpoints<'_>,
        terms: SwitchTerms<'_>,
    ) -> Result<Option<Switched>, Failure> {
        retry_on_conflict(ends, "switching", async |ends: &mut Endpoints<'_>| {
            let outcome = if self.out {
                self.release(ends, terms).await
            } else {
                self.accept(ends, terms).await
            };
            if !matches!(outcome, Ok(Ok(Some(_)))) {
                ends.roll_back().await?;
            }
            outcome
        })
        .await?
    }

    /// The control database releases the organization to the dedicated database.
    async fn release(
        &self,
        ends: &mut Endpoints<'_>,
        (keep_days, count, since): SwitchTerms<'_>,
    ) -> pg::Result<Result<Option<Switched>, Failure>> {
        let id = self.organization().id;
        let there = ends.there.begin().await?;
        exclude_maintenance(&there).await?;
        let control = ends.control.begin().await?;
        let waited = exclude_writers(&control, id).await?;
        let started = Instant::now();
        let changes = pending(&control, id).await?;
        if changes > MOST_CHANGES {
            return Ok(Ok(None));
        }
        let (_, last) = self.read_changes(&control).await?;
        for one in &last {
            users::copy_missing(&control, &there, one.rows, &one.content).await?;
        }
        // From here on changes of members wait for the switch.
        let members = users::members(&control, id, "FOR SHARE OF u").await?;
        let outdated = users::outdated_users(&there, &members).await?;
        users::copy(&control, &there, &outdated).await?;
        let faults = self.write_changes(&there, &last).await?;
        if let Err(failure) = check(&faults) {
            return Ok(Err(failure));
        }
        // A suspension cannot change while writers are excluded.
        let (suspension, suspended_at): (Option<String>, Option<DateTime<Utc>>) = control
            .query_one(
                "SELECT suspension, suspended_at FROM app.placements WHERE organization_id = $1",
                &[&id],
            )
            .await?;
        copy_responses(&control, &there, id, Some(since)).await?;
        self.copy_slugs(&control, &there).await?;
        let ready = there
            .execute(
                "UPDATE app.placements SET move_metadata = $3, suspension = $4, suspended_at = $5
             WHERE organization_id = $1 AND generation = $2 AND placement = 'remote'",
                &[&id, &self.generation, &self.arrival(count), &suspension, &suspended_at],
            )
            .await?;
        if ready != 1 {
            return Ok(Err(self.interrupted()));
        }
        there.commit().await?;
        delete_changes(&control, id).await?;
        let released = control
            .execute(
                "UPDATE app.placements SET placement = $2, generation = $3, moving_to = NULL, moved_at = now(), old_placement = placement,
                    keep_old_until = now() + $4 * interval '1 day'
             WHERE organization_id = $1 AND placement = $5 AND moving_to = $2 AND generation = $3 - 1",
                &[&id, &self.move_organization.target.name(), &self.generation, &i32::from(keep_days), &self.organization().placement.name()],
            )
            .await?;
        if released != 1 {
            return Ok(Err(self.interrupted()));
        }
        control.commit().await?;
        Ok(Ok(Some(Switched { changes, waited, held: started.elapsed() })))
    }

    /// The control database accepts the organization from the dedicated database.
    async fn accept(
        &self,
        ends: &mut Endpoints<'_>,
        (keep_days, count, since): SwitchTerms<'_>,
    ) -> pg::Result<Result<Option<Switched>, Failure>> {
        let id = self.organization().id;
        let control = ends.control.begin().await?;
        exclude_maintenance(&control).await?;
        let there = ends.there.begin().await?;
        let waited = exclude_writers(&there, id).await?;
        let started = Instant::now();
        let changes = pending(&there, id).await?;
        if changes > MOST_CHANGES {
            return Ok(Ok(None));
        }
        let (_, last) = self.read_changes(&there).await?;
        if let Err(failure) = self.sync_directory(&control, &there).await? {
            return Ok(Err(failure));
        }
        let (mirrored, copied): (Vec<Changed<'_>>, Vec<Changed<'_>>) =
            last.into_iter().partition(|one| one.rows.table.mirrored);
        let mut faults = self.write_changes(&control, &copied).await?;
        faults.extend(self.differing(&control, &mirrored).await?);
        if let Err(failure) = check(&faults) {
            return Ok(Err(failure));
        }
        copy_responses(&there, &control, id, Some(since)).await?;
        // Maintenance may have recorded changes of directory rows in the control database.
        delete_changes(&control, id).await?;
        let ready = control
            .execute(
                "UPDATE app.placements SET move_metadata = $3, keep_old_until = now() + $4 * interval '1 day'
             WHERE organization_id = $1 AND generation = $2 - 1 AND placement = $5 AND moving_to = 'shared'",
                &[&id, &self.generation, &self.arrival(count), &i32::from(keep_days), &self.organization().placement.name()],
            )
            .await?;
        if ready != 1 {
            return Ok(Err(self.interrupted()));
        }
        control.commit().await?;
        delete_changes(&there, id).await?;
        let released = there
            .execute(
                "UPDATE app.placements SET placement = 'remote', generation = $2, moving_to = NULL, moved_at = now()
             WHERE organization_id = $1 AND placement = 'shared' AND moving_to = 'remote' AND generation = $2 - 1",
                &[&id, &self.generation],
            )
            .await?;
        if released != 1 {
            return Ok(Err(self.interrupted()));
        }
        there.commit().await?;
        Ok(Ok(Some(Switched { changes, waited, held: started.elapsed() })))
    }

    /// The metadata of the audit entry about the move.
    fn arrival(&self, count: i64) -> serde_json::Value {
        json!({
            "from": self.organization().placement.name(), "to": self.move_organization.target.name(), "rows": count,
        })
    }

    /// Copies the organization's slugs and deletes others that the dedicated database still has.
    /// The control database decides which slugs an organization has.
    async fn copy_slugs(&self, control: &Client, there: &Client) -> pg::Result<()> {
        let id = self.organization().id;
        let slugs: Vec<String> = control
            .query(
                "SELECT s::text FROM app.organization_slugs s WHERE s.organization_id = $1",
                &[&id],
            )
            .await?;
        there
            .execute(
                "WITH read AS MATERIALIZED (SELECT v::app.organization_slugs AS whole FROM unnest($2::text[]) v),
                  gone AS (DELETE FROM app.organization_slugs s WHERE s.organization_id = $1
                               AND NOT EXISTS (SELECT FROM read WHERE (whole).slug = s.slug))
             INSERT INTO app.organization_slugs AS s SELECT (whole).* FROM read WHERE (whole).organization_id = $1
             ON CONFLICT (slug) DO UPDATE SET organization_id = $1, retired_at = excluded.retired_at, claimed_by = excluded.claimed_by,
                 created_at = excluded.created_at, updated_at = excluded.updated_at",
                &[&id, &slugs],
            )
            .await?;
        Ok(())
    }
}
