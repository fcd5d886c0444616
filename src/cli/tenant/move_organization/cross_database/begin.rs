//! How a move between databases begins, how it is called off, and how one ends that was interrupted
//! in its switch.

use sqlx::{Connection, Executor, PgConnection};

use super::{
    super::{begin, stale_copy},
    CrossDatabaseMove, Endpoints, elsewhere,
};
use crate::cli::{
    Failure,
    tenant::{
        locks::{exclude_writers, with_timeout},
        organization::Organization,
        placement::Placement,
    },
};

/// What was left to do of a switch.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Finished {
    Nothing,
    TakenIn,
    TakenBack,
}

/// Lets the new home take in what the old one has let go; refuses what can never be. Servers do the
/// same.
pub(in super::super) async fn finish(
    ends: &mut Endpoints<'_>,
    organization: &Organization,
) -> Result<Finished, Failure> {
    let Organization { id, name, placement, generation, .. } = organization;
    let there = Organization::get(ends.there, *id).await?;
    let taken = match (placement, &there.placement, there.generation - generation) {
        (Placement::Database(_), Placement::Shared, 0)
        | (Placement::Shared | Placement::Schema, Placement::Elsewhere, _) => {
            return Ok(Finished::Nothing);
        }
        (Placement::Database(_), Placement::Elsewhere, 0) => {
            sqlx::query("SELECT app.take_in($1, $2)")
                .bind(id)
                .bind(there.generation)
                .execute(&mut *ends.there)
                .await?;
            Finished::TakenIn
        }
        (Placement::Database(_), Placement::Elsewhere, 1) if organization.moving_to.is_some() => {
            sqlx::query("SELECT app.take_back($1, $2)")
                .bind(id)
                .bind(there.generation)
                .execute(&mut *ends.control)
                .await?;
            Finished::TakenBack
        }
        _ => {
            return Err(Failure::new(format!(
                "the databases disagree about {name}: it lives in {placement} as of its generation {generation}, and in {} as of {}",
                there.placement, there.generation
            )));
        }
    };
    Ok(taken)
}

/// Writers in the database note changes no more, because it stays.
pub(in super::super) async fn stop(
    there: &mut PgConnection,
    organization: &Organization,
) -> Result<(), Failure> {
    with_timeout(there, "calling off", async |there: &mut PgConnection| {
        let mut transaction = there.begin().await?;
        exclude_writers(&mut transaction, organization.id).await?;
        sqlx::query("UPDATE app.placements SET moving_to = NULL WHERE organization_id = $1 AND home = 'shared'")
            .bind(organization.id)
            .execute(&mut *transaction)
            .await?;
        begin::forget_changes(&mut transaction, organization.id).await?;
        transaction.commit().await
    })
    .await
}

impl CrossDatabaseMove {
    /// Writers note changes, and the copy is one of this move.
    pub(super) async fn is_begun(&self, ends: &mut Endpoints<'_>) -> Result<bool, Failure> {
        let organization = self.organization();
        let there = Organization::get(ends.there, organization.id).await?;
        Ok(organization.moving_to.is_some() && (self.out || there.moving_to.is_some()))
    }

    /// From here on changes are noted at the source.
    pub(super) async fn begin(&self, ends: &mut Endpoints<'_>) -> Result<(), Failure> {
        let id = self.organization().id;
        begin::begin(ends.control, id, &self.move_organization.target).await?;
        if self.out {
            return Ok(());
        }
        let begun = with_timeout(ends.there, "beginning", async |there: &mut PgConnection| {
            let mut transaction = there.begin().await?;
            exclude_writers(&mut transaction, id).await?;
            begin::forget_changes(&mut transaction, id).await?;
            let begun = sqlx::query(
                "UPDATE app.placements SET moving_to = $2 WHERE organization_id = $1 AND home = 'shared' AND generation = $3",
            )
            .bind(id)
            .bind(elsewhere())
            .bind(self.generation - 1)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(begun.rows_affected())
        })
        .await?;
        if begun == 1 { Ok(()) } else { Err(self.interrupted()) }
    }

    /// Clears away what lies at the target and is none of a copy of this move; the database learns
    /// of the organization.
    pub(super) async fn prepare(&self, ends: &mut Endpoints<'_>) -> Result<(), Failure> {
        let now = Organization::get(ends.control, self.organization().id).await?;
        if now.old_home.as_ref() == Some(&self.move_organization.target) {
            stale_copy::remove(
                ends.control,
                Some(ends.there),
                &now,
                &self.move_organization.target,
            )
            .await?;
        }
        if !self.out {
            return Ok(());
        }
        let mut transaction = ends.there.begin().await?;
        transaction.execute("SET LOCAL app.copying = 'on'").await?;
        let known = sqlx::query(
            "INSERT INTO app.placements AS p (organization_id, home, generation) VALUES ($1, 'elsewhere', $2)
             ON CONFLICT (organization_id) DO UPDATE SET generation = $2, arrival = NULL WHERE p.home = 'elsewhere'",
        )
        .bind(now.id)
        .bind(self.generation)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        if known.rows_affected() == 1 { Ok(()) } else { Err(self.interrupted()) }
    }

    pub(super) fn interrupted(&self) -> Failure {
        Failure::new(format!(
            "the placement of {} was changed by somebody else: try again",
            self.organization().name
        ))
    }
}
