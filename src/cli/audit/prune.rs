//! `tenantry audit prune`
#![expect(clippy::disallowed_types, reason = "retention is the same for all tenants")]

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{Failure, Owner};
use crate::{audit::Action, cli::say, clock::Clock};

/// Rows of a transaction.
const BATCH: i64 = 10_000;

/// Taking a partition away needs a moment without readers.
const MOST_TRIES: u32 = 60;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// Delete the entries of before a day, of all organizations, for good. Each organization's log says that it was done.
#[derive(Debug, clap::Args)]
pub(super) struct Prune {
    /// Entries from this day on are kept, for example 2026-01-01 (UTC).
    #[arg(long, value_name = "DATE")]
    before: NaiveDate,

    #[command(flatten)]
    owner: Owner,
}

impl Prune {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let before = self.before.and_time(NaiveTime::MIN).and_utc();
        if before > Clock::system().now() {
            return Err(Failure::new(format!(
                "--before {}: the day must be in the past",
                self.before
            )));
        }
        let mut connection = self.owner.connect().await?;
        let count = prune(&mut connection, before)
            .await
            .map_err(|error| Failure::new(format!("not everything was deleted: {error}")))?;
        say(format!("deleted {count} entries of before {}", self.before));
        Ok(())
    }
}

async fn prune(connection: &mut PgConnection, before: DateTime<Utc>) -> Result<i64, sqlx::Error> {
    let (mut count, mut tries) = (0, 0);
    for (partition, end) in migration::audit_partitions::ended(connection, before).await? {
        count += loop {
            tries += 1;
            match drop_partition(connection, &partition, end).await {
                Err(error) if tries < MOST_TRIES && is_locked(&error) => {
                    tokio::time::sleep(PAUSE).await;
                }
                outcome => break outcome?,
            }
        };
    }
    // One organization after the other, along the primary key.
    let mut last = Uuid::nil();
    while let Some(organization) = next_organization(connection, last).await? {
        let deleted = delete(connection, organization, before).await?;
        if deleted > 0 {
            eprintln!("{organization}: {deleted} entries");
            count += deleted;
        }
        last = organization;
    }
    Ok(count)
}

/// Others hold the log, such as an export.
fn is_locked(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("55P03"))
}

/// A month that has ended goes as a whole, in an instant.
async fn drop_partition(
    connection: &mut PgConnection,
    partition: &str,
    end: DateTime<Utc>,
) -> Result<i64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    // Older partitions are gone already, so what ends before it does is in it.
    let counted: Vec<(Uuid, i64)> = sqlx::query_as(
        "SELECT organization_id, count(*) FROM audit.audit_logs WHERE created_at < $1 GROUP BY organization_id",
    )
    .bind(end)
    .fetch_all(&mut *transaction)
        .await?;
    for (organization, deleted) in &counted {
        record(&mut transaction, *organization, end, *deleted).await?;
    }
    migration::audit_partitions::drop(&mut transaction, partition).await?;
    transaction.commit().await?;
    let deleted = counted.iter().map(|(_, count)| count).sum();
    eprintln!("{partition}: {deleted} entries");
    Ok(deleted)
}

async fn next_organization(
    connection: &mut PgConnection,
    last: Uuid,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT organization_id FROM audit.audit_logs WHERE organization_id > $1 ORDER BY organization_id LIMIT 1",
    )
    .bind(last)
    .fetch_optional(connection)
    .await
}

async fn delete(
    connection: &mut PgConnection,
    organization: Uuid,
    before: DateTime<Utc>,
) -> Result<i64, sqlx::Error> {
    let mut deleted = 0;
    loop {
        let mut transaction = connection.begin().await?;
        let rows = sqlx::query(
            "DELETE FROM audit.audit_logs WHERE organization_id = $1 AND (created_at, id) IN (
                 SELECT created_at, id FROM audit.audit_logs
                 WHERE organization_id = $1 AND created_at < $2 ORDER BY created_at, id LIMIT $3)",
        )
        .bind(organization)
        .bind(before)
        .bind(BATCH)
        .execute(&mut *transaction)
        .await?;
        let rows = i64::try_from(rows.rows_affected()).unwrap_or(i64::MAX);
        if rows > 0 {
            record(&mut transaction, organization, before, rows).await?;
        }
        transaction.commit().await?;
        deleted += rows;
        if rows < BATCH {
            return Ok(deleted);
        }
    }
}

/// In the transaction that deletes: what is gone was recorded.
async fn record(
    connection: &mut PgConnection,
    organization: Uuid,
    before: DateTime<Utc>,
    deleted: i64,
) -> Result<(), sqlx::Error> {
    let action = Action::AuditPruned;
    sqlx::query(
        "INSERT INTO audit.audit_logs (organization_id, actor_name, action, resource_type, resource_id, metadata)
         VALUES ($1, 'tenantry audit prune', $2, $3, $1, $4)",
    )
    .bind(organization)
    .bind(action.name())
    .bind(action.resource_type())
    .bind(json!({ "before": before, "entries": deleted }))
    .execute(connection)
    .await?;
    Ok(())
}
