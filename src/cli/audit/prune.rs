//! `tenantry audit prune`: deletes old entries. The transaction that deletes an organization's
//! entries also records it in that organization's log.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use pg::Client;
use serde_json::json;
use uuid::Uuid;

use super::{Failure, Owner};
use crate::{
    audit::Action,
    cli::{
        say,
        tenant::{audit_logs, exclude_moves, record},
    },
    clock::Clock,
};

/// Rows per transaction.
const BATCH: i64 = 10_000;

/// Dropping a partition needs a moment without readers.
const MOST_TRIES: u32 = 60;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// Delete the entries of all organizations before a day, permanently. Each organization's log
/// records it.
#[derive(Debug, clap::Args)]
pub(super) struct Prune {
    /// The first day whose entries are kept, for example 2026-01-01 (UTC).
    #[arg(long, value_name = "DATE")]
    before: NaiveDate,

    #[command(flatten)]
    owner: Owner,
}

impl Prune {
    pub(super) async fn run(self) -> Result<(), Failure> {
        if self.before() > Clock::system().now() {
            return Err(Failure::new(format!(
                "--before {} is in the future. Give a day in the past.",
                self.before
            )));
        }
        self.owner.in_all(async |connection, place| self.prune(connection, place).await).await
    }

    fn before(&self) -> DateTime<Utc> {
        self.before.and_time(NaiveTime::MIN).and_utc()
    }

    async fn prune(&self, connection: &mut Client, place: &str) -> Result<(), Failure> {
        let count = prune(connection, self.before()).await.map_err(|error| {
            let error = error.explained();
            Failure::new(format!("some entries were not deleted: {error}. Run the command again."))
        })?;
        say(format!("deleted {count} entries before {}{place}", self.before));
        Ok(())
    }
}

async fn prune(connection: &mut Client, before: DateTime<Utc>) -> pg::Result<i64> {
    let (mut count, mut tries) = (0, 0);
    let sql = "SELECT name, upper_bound FROM audit.partitions() WHERE upper_bound <= $1 ORDER BY upper_bound";
    let ended: Vec<(String, DateTime<Utc>)> = connection.query(sql, &[&before]).await?;
    for (partition, end) in ended {
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
    // Visits one organization after the other, along the primary key.
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

/// Whether another session, such as an export, holds a lock on the log.
fn is_locked(error: &pg::Error) -> bool {
    error.has_code(&["55P03"])
}

/// Drops the partition of a past month as a whole, which takes an instant.
async fn drop_partition(
    connection: &mut Client,
    partition: &str,
    end: DateTime<Utc>,
) -> pg::Result<i64> {
    let transaction = connection.begin().await?;
    exclude_moves(&transaction).await?;
    // Dropping a partition fires no row triggers, so a running move would miss the deletions.
    let sql = "SELECT organization_id FROM app.placements WHERE moving_to IS NOT NULL LIMIT 1";
    let moving: Option<Uuid> = transaction.query_opt(sql, &[]).await?;
    if let Some(organization) = moving {
        return Err(pg::Error::statement(format!(
            "the organization {organization} is moving. Finish or cancel its move first."
        )));
    }
    // Older partitions are already dropped, so every entry before `end` is in this one.
    let sql = "SELECT organization_id, count(*) FROM audit.audit_logs l WHERE created_at < $1 GROUP BY organization_id
         HAVING coalesce((SELECT p.placement FROM app.placements p WHERE p.organization_id = l.organization_id),
                         CASE WHEN app.database_name() IS NULL THEN 'shared' END) = 'shared'";
    let counted: Vec<(Uuid, i64)> = transaction.query(sql, &[&end]).await?;
    for (organization, deleted) in &counted {
        record_deletion(&transaction, false, *organization, end, *deleted).await?;
    }
    // While this waits for a lock, all later statements on the log wait as well.
    let statement = format!(
        "SET LOCAL lock_timeout = '1s';
         ALTER TABLE audit.audit_logs DETACH PARTITION {partition}; DROP TABLE {partition}"
    );
    transaction.batch(&statement).await?;
    transaction.commit().await?;
    let deleted = counted.iter().map(|(_, count)| count).sum();
    eprintln!("{partition}: {deleted} entries");
    Ok(deleted)
}

async fn next_organization(connection: &Client, last: Uuid) -> pg::Result<Option<Uuid>> {
    let sql = "SELECT organization_id FROM (
             (SELECT organization_id FROM audit.audit_logs WHERE organization_id > $1 ORDER BY organization_id LIMIT 1)
             UNION ALL
             (SELECT organization_id FROM app.placements WHERE organization_id > $1 ORDER BY organization_id LIMIT 1)) next
         ORDER BY organization_id LIMIT 1";
    connection.query_opt(sql, &[&last]).await
}

/// Deletes from the organization's current log, where it is recorded, and from any stale copy.
async fn delete(
    connection: &mut Client,
    organization: Uuid,
    before: DateTime<Utc>,
) -> pg::Result<i64> {
    let mut deleted = 0;
    loop {
        let transaction = connection.begin().await?;
        // As every writer does: the placement cannot change meanwhile, and a running move records
        // what is deleted here.
        let sql = "SELECT placement, to_regnamespace(app.placement_schema($1)) IS NOT NULL FROM auth.enter_organization($1)";
        let (placement, has_schema): (String, bool) =
            transaction.query_one(sql, &[&organization]).await?;
        let in_schema = placement == "schema";
        let log = audit_logs(in_schema, organization);
        let (mut rows, mut copied) = (0, 0);
        let done = delete_batch(&transaction, &log, organization, before).await?;
        if !in_schema && placement != "shared" {
            // This log is a stale copy. The run in the dedicated database counts and records.
            copied = done;
        } else if done > 0 {
            rows = done;
            record_deletion(&transaction, in_schema, organization, before, rows).await?;
        }
        if in_schema || has_schema {
            let copy = audit_logs(!in_schema, organization);
            copied += delete_batch(&transaction, &copy, organization, before).await?;
        }
        transaction.commit().await?;
        deleted += rows;
        if rows < BATCH && copied < BATCH {
            return Ok(deleted);
        }
    }
}

async fn delete_batch(
    connection: &Client,
    log: &str,
    organization: Uuid,
    before: DateTime<Utc>,
) -> pg::Result<i64> {
    let sql = format!(
        "DELETE FROM {log} WHERE organization_id = $1 AND (created_at, id) IN (
             SELECT created_at, id FROM {log}
             WHERE organization_id = $1 AND created_at < $2 ORDER BY created_at, id LIMIT $3)"
    );
    let rows = connection.execute(&sql, &[&organization, &before, &BATCH]).await?;
    Ok(i64::try_from(rows).unwrap_or(i64::MAX))
}

/// Records the deletion in the transaction that deletes.
async fn record_deletion(
    connection: &Client,
    in_schema: bool,
    organization: Uuid,
    before: DateTime<Utc>,
    deleted: i64,
) -> pg::Result<()> {
    let what = ("tenantry audit prune", Action::AuditPruned);
    let metadata = json!({ "before": before, "entries": deleted });
    record(connection, in_schema, organization, what, organization, metadata).await
}
