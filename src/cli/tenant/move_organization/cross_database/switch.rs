//! The switch between databases. The old placement releases the organization in one transaction
//! that excludes writers. Before it commits, the last changes are committed at the new placement,
//! which accepts the organization afterwards. Any server can complete that last step.

use std::time::Instant;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use super::{
    super::{
        begin::delete_changes,
        changes::check,
        switch::{MOST_CHANGES, Switched, pending},
    },
    CrossDatabaseMove, Endpoints,
    changes::Changed,
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
    ) -> Result<Result<Option<Switched>, Failure>, sqlx::Error> {
        let id = self.organization().id;
        let mut there = ends.there.begin().await?;
        exclude_maintenance(&mut there).await?;
        let mut control = ends.control.begin().await?;
        let waited = exclude_writers(&mut control, id).await?;
        let started = Instant::now();
        let changes = pending(&mut control, id).await?;
        if changes > MOST_CHANGES {
            return Ok(Ok(None));
        }
        let (_, last) = self.read_changes(&mut control).await?;
        {
            let mut ends = Endpoints { control: &mut control, there: &mut there };
            for one in &last {
                users::copy_missing(&mut ends, one.rows, &one.content).await?;
            }
        }
        // From here on changes of members wait for the switch.
        let members = users::members(&mut control, id, "FOR SHARE OF u").await?;
        let outdated = users::outdated_users(&mut there, &members).await?;
        users::copy(&mut control, &mut there, &outdated).await?;
        let faults = self.write_changes(&mut there, &last).await?;
        if let Err(failure) = check(&faults) {
            return Ok(Err(failure));
        }
        // A suspension cannot change while writers are excluded.
        let (suspension, suspended_at): (Option<String>, Option<DateTime<Utc>>) = sqlx::query_as(
            "SELECT suspension, suspended_at FROM app.placements WHERE organization_id = $1",
        )
        .bind(id)
        .fetch_one(&mut *control)
        .await?;
        copy_responses(&mut control, &mut there, id, Some(since)).await?;
        self.copy_slugs(&mut control, &mut there).await?;
        let ready = sqlx::query(
            "UPDATE app.placements SET move_metadata = $3, suspension = $4, suspended_at = $5
             WHERE organization_id = $1 AND generation = $2 AND placement = 'remote'",
        )
        .bind(id)
        .bind(self.generation)
        .bind(self.arrival(count))
        .bind(suspension)
        .bind(suspended_at)
        .execute(&mut *there)
        .await?;
        if ready.rows_affected() != 1 {
            return Ok(Err(self.interrupted()));
        }
        there.commit().await?;
        delete_changes(&mut control, id).await?;
        let released = sqlx::query(
            "UPDATE app.placements SET placement = $2, generation = $3, moving_to = NULL, moved_at = now(), old_placement = placement,
                    keep_old_until = now() + $4 * interval '1 day'
             WHERE organization_id = $1 AND placement = $5 AND moving_to = $2 AND generation = $3 - 1",
        )
        .bind(id)
        .bind(self.move_organization.target.name())
        .bind(self.generation)
        .bind(i32::from(keep_days))
        .bind(self.organization().placement.name())
        .execute(&mut *control)
        .await?;
        if released.rows_affected() != 1 {
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
    ) -> Result<Result<Option<Switched>, Failure>, sqlx::Error> {
        let id = self.organization().id;
        let mut control = ends.control.begin().await?;
        exclude_maintenance(&mut control).await?;
        let mut there = ends.there.begin().await?;
        let waited = exclude_writers(&mut there, id).await?;
        let started = Instant::now();
        let changes = pending(&mut there, id).await?;
        if changes > MOST_CHANGES {
            return Ok(Ok(None));
        }
        let (_, last) = self.read_changes(&mut there).await?;
        {
            let mut ends = Endpoints { control: &mut control, there: &mut there };
            if let Err(failure) = self.sync_directory(&mut ends).await? {
                return Ok(Err(failure));
            }
        }
        let (mirrored, copied): (Vec<Changed<'_>>, Vec<Changed<'_>>) =
            last.into_iter().partition(|one| one.rows.table.mirrored);
        let mut faults = self.write_changes(&mut control, &copied).await?;
        faults.extend(self.differing(&mut control, &mirrored).await?);
        if let Err(failure) = check(&faults) {
            return Ok(Err(failure));
        }
        copy_responses(&mut there, &mut control, id, Some(since)).await?;
        // Maintenance may have recorded changes of directory rows in the control database.
        delete_changes(&mut control, id).await?;
        let ready = sqlx::query(
            "UPDATE app.placements SET move_metadata = $3, keep_old_until = now() + $4 * interval '1 day'
             WHERE organization_id = $1 AND generation = $2 - 1 AND placement = $5 AND moving_to = 'shared'",
        )
        .bind(id)
        .bind(self.generation)
        .bind(self.arrival(count))
        .bind(i32::from(keep_days))
        .bind(self.organization().placement.name())
        .execute(&mut *control)
        .await?;
        if ready.rows_affected() != 1 {
            return Ok(Err(self.interrupted()));
        }
        control.commit().await?;
        delete_changes(&mut there, id).await?;
        let released = sqlx::query(
            "UPDATE app.placements SET placement = 'remote', generation = $2, moving_to = NULL, moved_at = now()
             WHERE organization_id = $1 AND placement = 'shared' AND moving_to = 'remote' AND generation = $2 - 1",
        )
        .bind(id)
        .bind(self.generation)
        .execute(&mut *there)
        .await?;
        if released.rows_affected() != 1 {
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
    async fn copy_slugs(
        &self,
        control: &mut PgConnection,
        there: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let id = self.organization().id;
        let slugs: Vec<String> = sqlx::query_scalar(
            "SELECT s::text FROM app.organization_slugs s WHERE s.organization_id = $1",
        )
        .bind(id)
        .fetch_all(control)
        .await?;
        sqlx::query(
            "WITH read AS MATERIALIZED (SELECT v::app.organization_slugs AS whole FROM unnest($2::text[]) v),
                  gone AS (DELETE FROM app.organization_slugs s WHERE s.organization_id = $1
                               AND NOT EXISTS (SELECT FROM read WHERE (whole).slug = s.slug))
             INSERT INTO app.organization_slugs AS s SELECT (whole).* FROM read WHERE (whole).organization_id = $1
             ON CONFLICT (slug) DO UPDATE SET organization_id = $1, retired_at = excluded.retired_at, claimed_by = excluded.claimed_by,
                 created_at = excluded.created_at, updated_at = excluded.updated_at",
        )
        .bind(id)
        .bind(&slugs)
        .execute(there)
        .await?;
        Ok(())
    }
}
