//! The audit log in monthly partitions: converts the plain table while it is in use, and creates
//! the partitions of the coming months.
//!
//! Entries from before the conversion are in `audit_logs_history`, later months in
//! `audit_logs_YYYY_MM`. `audit_logs_default` takes entries between them; it should be empty. No
//! role has rights on a partition, and its row-level security has no policy: the log is reached
//! through `audit.audit_logs` alone.

use chrono::{DateTime, Utc};
use pg::Client;

use crate::{
    APP_ROLE, SYSTEM_ROLE,
    rls::{self, CURRENT_ORGANIZATION, Verb},
};

/// While this waits for a lock, all later statements on the table wait as well: so it tries again
/// instead.
const LOCK_WAIT: &str = "SET LOCAL lock_timeout = '1s'";
const TRIES: usize = 30;

/// What was done.
#[derive(Debug)]
pub struct Report {
    /// The plain table was converted.
    pub converted: bool,
    /// The partitions that were created.
    pub created: Vec<String>,
}

/// Partitions the log if it is not, and creates the partitions of the coming months. The connection
/// acts as the owner.
///
/// # Errors
///
/// When PostgreSQL refuses, or other transactions hold the table for too long; the log is then as
/// before. A run that is killed may leave a check behind, which the self-check reports and the next
/// run removes.
pub async fn ensure(connection: &mut Client, progress: impl Fn(&str)) -> pg::Result<Report> {
    let plain: bool = connection
        .query_one(
            "SELECT relkind = 'r' FROM pg_class WHERE oid = 'audit.audit_logs'::regclass",
            &[],
        )
        .await?;
    if plain {
        convert(connection, &progress).await?;
    }
    let created = connection.query("SELECT audit.ensure_partitions()", &[]).await?;
    Ok(Report { converted: plain, created })
}

async fn convert(connection: &mut Client, progress: &impl Fn(&str)) -> pg::Result<()> {
    // Long enough for an operator to notice a check that an interrupted run has left behind.
    let bound: DateTime<Utc> = connection
        .query_one("SELECT date_trunc('month', now(), 'UTC') + interval '2 months'", &[])
        .await?;
    progress("checking the existing entries, while servers continue to write …");
    // Validated beforehand, so that attaching the table does not scan it.
    let check = format!(
        "ALTER TABLE audit.audit_logs DROP CONSTRAINT IF EXISTS audit_logs_before;
         ALTER TABLE audit.audit_logs ADD CONSTRAINT audit_logs_before CHECK (created_at < '{}') NOT VALID",
        bound.to_rfc3339()
    );
    execute_with_retries(connection, &check).await?;
    connection.batch("ALTER TABLE audit.audit_logs VALIDATE CONSTRAINT audit_logs_before").await?;
    progress("exchanging the tables …");
    execute_with_retries(connection, &exchange(&bound.to_rfc3339())).await
}

/// The plain table becomes the first partition of a new table of the same name, in one transaction.
fn exchange(bound: &str) -> String {
    let table = format!(
        "DROP TRIGGER IF EXISTS record_change ON audit.audit_logs;
         ALTER TABLE audit.audit_logs RENAME TO audit_logs_history;
         ALTER INDEX audit.audit_logs_pkey RENAME TO audit_logs_history_pkey;
         ALTER INDEX audit.audit_logs_organization_id_actor_id_created_at_id_idx RENAME TO audit_logs_history_actor_idx;
         ALTER INDEX audit.audit_logs_organization_id_resource_id_created_at_id_idx RENAME TO audit_logs_history_resource_idx;
         CREATE TABLE audit.audit_logs (
             LIKE audit.audit_logs_history INCLUDING DEFAULTS,
             CONSTRAINT audit_logs_action_check CHECK (action ~ '^[a-z_]+\\.[a-z_]+$'),
             PRIMARY KEY (organization_id, created_at, id)
         ) PARTITION BY RANGE (created_at);
         CREATE INDEX ON audit.audit_logs (organization_id, actor_id, created_at, id);
         CREATE INDEX ON audit.audit_logs (organization_id, resource_id, created_at, id);
         ALTER TABLE audit.audit_logs ATTACH PARTITION audit.audit_logs_history FOR VALUES FROM (MINVALUE) TO ('{bound}');
         ALTER TABLE audit.audit_logs_history DROP CONSTRAINT audit_logs_before;
         REVOKE ALL ON audit.audit_logs_history FROM tenantry_app, tenantry_system;
         CREATE TABLE audit.audit_logs_default PARTITION OF audit.audit_logs DEFAULT;\n"
    );
    table + &rls::protect("audit.audit_logs_default") + &access()
}

/// The row-level security of the log. Servers may add entries and fill in some of their columns;
/// background work names its reason in place of a user. The owner moves entries between partitions,
/// deletes old ones, and erases names of users.
pub(crate) fn access() -> String {
    let (log, condition) =
        ("audit.audit_logs", format!("organization_id = {CURRENT_ORGANIZATION}"));
    let columns = "organization_id, action, resource_type, resource_id, metadata, ip_address";
    [
        rls::tenant(log, "organization_id, created_at, id", &[Verb::Select]),
        rls::system(log, "organization_id", &[Verb::Select]),
        rls::policy(log, APP_ROLE, Verb::Insert, &condition),
        rls::policy(log, SYSTEM_ROLE, Verb::Insert, &condition),
        format!(
            "GRANT INSERT ({columns}) ON {log} TO {APP_ROLE};
             GRANT INSERT ({columns}, actor_name) ON {log} TO {SYSTEM_ROLE};\n"
        ),
    ]
    .concat()
}

/// Executes statements in a transaction that never makes other transactions wait for long.
async fn execute_with_retries(connection: &mut Client, sql: &str) -> pg::Result<()> {
    for attempt in 1.. {
        let transaction = connection.begin().await?;
        transaction.batch(LOCK_WAIT).await?;
        match transaction.batch(sql).await {
            Ok(()) => return transaction.commit().await,
            Err(error) => {
                transaction.roll_back().await?;
                if !error.has_code(&["55P03"]) || attempt == TRIES {
                    return Err(error);
                }
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        }
    }
    unreachable!("the loop ends by returning")
}

/// The partitions whose entries are all older than `before`, oldest first, with their upper bounds.
///
/// # Errors
///
/// When the database fails.
pub async fn ended(
    connection: &Client,
    before: DateTime<Utc>,
) -> pg::Result<Vec<(String, DateTime<Utc>)>> {
    connection
        .query(
            "SELECT name, upper_bound FROM audit.partitions() WHERE upper_bound <= $1 ORDER BY upper_bound",
            &[&before],
        )
        .await
}

/// Drops a partition with all its entries, in the transaction of the connection.
///
/// # Errors
///
/// When other transactions hold the log for too long.
pub async fn drop(connection: &Client, partition: &str) -> pg::Result<()> {
    connection.batch(LOCK_WAIT).await?;
    let statement = format!(
        "ALTER TABLE audit.audit_logs DETACH PARTITION {partition}; DROP TABLE {partition}"
    );
    connection.batch(&statement).await?;
    Ok(())
}
