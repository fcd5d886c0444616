//! The audit log by month: from the plain table, while it is in use, and kept ahead of time.
//!
//! What was written before lies in `audit_logs_history`, later months in `audit_logs_YYYY_MM`, and
//! what falls between them, which should be nothing, in `audit_logs_default`. Partitions are
//! reached through `audit.audit_logs` alone: the app role has no rights on them, and their own
//! row-level security lets nobody in.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::{
    m0022_roles,
    rls::{self, Verb},
};

/// Waiting for a lock makes everybody wait behind us: rather try again.
const LOCK_WAIT: &str = "SET LOCAL lock_timeout = '1s'";
const TRIES: usize = 30;

/// What was done.
#[derive(Debug)]
pub struct Report {
    /// The plain table was made into a partitioned one.
    pub converted: bool,
    /// The partitions that were made.
    pub created: Vec<String>,
}

/// Partitions the log if it is not, and makes the partitions of the coming months. The connection
/// acts as the owner.
///
/// # Errors
///
/// When PostgreSQL refuses, or others hold the table for too long; the log is then as it was. A run
/// that is killed may leave a check behind, which the self-check reports and the next run removes.
pub async fn ensure(
    connection: &mut PgConnection,
    progress: impl Fn(&str),
) -> Result<Report, sqlx::Error> {
    let plain: bool = sqlx::query_scalar(
        "SELECT relkind = 'r' FROM pg_class WHERE oid = 'audit.audit_logs'::regclass",
    )
    .fetch_one(&mut *connection)
    .await?;
    if plain {
        convert(connection, &progress).await?;
    }
    let created =
        sqlx::query_scalar("SELECT audit.ensure_partitions()").fetch_all(connection).await?;
    Ok(Report { converted: plain, created })
}

async fn convert(
    connection: &mut PgConnection,
    progress: &impl Fn(&str),
) -> Result<(), sqlx::Error> {
    // Far enough away that somebody notices a check that an interrupted run has left behind.
    let bound: DateTime<Utc> =
        sqlx::query_scalar("SELECT date_trunc('month', now(), 'UTC') + interval '2 months'")
            .fetch_one(&mut *connection)
            .await?;
    progress("checking what is there, while servers go on writing …");
    // Proven beforehand, so that attaching the table needs no look at its rows.
    let check = format!(
        "ALTER TABLE audit.audit_logs DROP CONSTRAINT IF EXISTS audit_logs_before;
         ALTER TABLE audit.audit_logs ADD CONSTRAINT audit_logs_before CHECK (created_at < '{}') NOT VALID",
        bound.to_rfc3339()
    );
    patiently(connection, &check).await?;
    connection
        .execute("ALTER TABLE audit.audit_logs VALIDATE CONSTRAINT audit_logs_before")
        .await?;
    progress("changing places …");
    patiently(connection, &exchange(&bound.to_rfc3339())).await
}

/// The plain table becomes the first partition of a new one with the same name, in one transaction.
fn exchange(bound: &str) -> String {
    let table = format!(
        "DROP TRIGGER IF EXISTS note_change ON audit.audit_logs;
         ALTER TABLE audit.audit_logs RENAME TO audit_logs_history;
         ALTER INDEX audit.audit_logs_pkey RENAME TO audit_logs_history_pkey;
         ALTER INDEX audit.audit_logs_organization_id_actor_id_created_at_id_idx RENAME TO audit_logs_history_actor_idx;
         CREATE TABLE audit.audit_logs (
             LIKE audit.audit_logs_history INCLUDING DEFAULTS,
             CONSTRAINT audit_logs_action_check CHECK (action ~ '^[a-z_]+\\.[a-z_]+$'),
             PRIMARY KEY (organization_id, created_at, id)
         ) PARTITION BY RANGE (created_at);
         CREATE INDEX ON audit.audit_logs (organization_id, actor_id, created_at, id);
         ALTER TABLE audit.audit_logs ATTACH PARTITION audit.audit_logs_history FOR VALUES FROM (MINVALUE) TO ('{bound}');
         ALTER TABLE audit.audit_logs_history DROP CONSTRAINT audit_logs_before;
         REVOKE ALL ON audit.audit_logs_history FROM tenantry_app, tenantry_system;
         CREATE TABLE audit.audit_logs_default PARTITION OF audit.audit_logs DEFAULT;\n"
    );
    table + &rls::protect("audit.audit_logs_default") + &wall()
}

/// The row-level security of the log itself, and the trigger that every partition has from it.
fn wall() -> String {
    let log = "audit.audit_logs";
    rls::tenant(log, "organization_id", &[Verb::Select])
        + &m0022_roles::append(log)
        + &maintenance()
        + &rls::noted(log, "organization_id, created_at, id")
}

/// What the owner may do: look, move rows between partitions, delete what is too old, and forget a
/// person's name.
pub(crate) fn maintenance() -> String {
    rls::definer("audit.audit_logs", &[Verb::Select, Verb::Insert, Verb::Update, Verb::Delete])
}

/// Runs in a transaction that never makes others wait for long.
async fn patiently(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    for attempt in 1.. {
        let mut transaction = connection.begin().await?;
        transaction.execute(LOCK_WAIT).await?;
        match transaction.execute(AssertSqlSafe(sql.to_owned())).await {
            Ok(_) => return transaction.commit().await,
            Err(error) => {
                transaction.rollback().await?;
                let locked = error
                    .as_database_error()
                    .is_some_and(|error| error.code().as_deref() == Some("55P03"));
                if !locked || attempt == TRIES {
                    return Err(error);
                }
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        }
    }
    unreachable!("the loop ends by returning")
}

/// The partitions whose rows are all older than `before`, oldest first, each with the end of its
/// time.
///
/// # Errors
///
/// When the database fails.
pub async fn ended(
    connection: &mut PgConnection,
    before: DateTime<Utc>,
) -> Result<Vec<(String, DateTime<Utc>)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT name, upper_bound FROM audit.partitions() WHERE upper_bound <= $1 ORDER BY upper_bound",
    )
    .bind(before)
    .fetch_all(connection)
    .await
}

/// Takes a partition away with all its rows, in the transaction that the connection is in.
///
/// # Errors
///
/// When others hold the log for too long.
pub async fn drop(connection: &mut PgConnection, partition: &str) -> Result<(), sqlx::Error> {
    connection.execute(LOCK_WAIT).await?;
    let statement = format!(
        "ALTER TABLE audit.audit_logs DETACH PARTITION {partition}; DROP TABLE {partition}"
    );
    connection.execute(AssertSqlSafe(statement)).await?;
    Ok(())
}
