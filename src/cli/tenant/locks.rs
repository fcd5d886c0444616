//! Locks and waits of maintenance commands. They give up a lock after a second and retry, so that
//! requests never queue behind them for long.

use std::time::{Duration, Instant};

use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use super::Failure;

/// Commands that change rows of many organizations outside of sessions hold this lock shared. A
/// command that changes a placement holds it exclusively.
pub(in crate::cli) const MAINTENANCE_LOCK: &str = "hashtextextended('tenantry maintenance', 0)";

const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

/// Repeats `work` until no other transaction is in its way.
pub(super) async fn retry_on_conflict<C, T>(
    connection: &mut C,
    what: &str,
    mut work: impl AsyncFnMut(&mut C) -> Result<T, sqlx::Error>,
) -> Result<T, Failure> {
    for attempt in 1.. {
        match work(connection).await {
            Err(error) if is_transient(&error) => {
                if attempt == TRIES {
                    return Err(Failure::new(format!(
                        "{what}: other transactions were in the way for {TRIES} attempts. Run the command again. ({error})"
                    )));
                }
                if attempt == 1 {
                    eprintln!("{what}: waiting for other transactions …");
                }
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return Ok(outcome?),
        }
    }
    unreachable!("the loop ends by returning")
}

/// Whether a later attempt may succeed: a lock was not available, or another transaction changed
/// the same rows, deleted a referenced row, or took a key that it will release.
fn is_transient(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["55P03", "40P01", "40001", "23503", "23505"].contains(&&*code))
}

/// Excludes other maintenance until the transaction ends.
pub(super) async fn exclude_maintenance(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection.execute("SET LOCAL lock_timeout = '1s'").await?;
    let lock = format!("SELECT pg_advisory_xact_lock({MAINTENANCE_LOCK})");
    connection.execute(sqlx::AssertSqlSafe(lock)).await?;
    Ok(())
}

/// Excludes other maintenance and the organization's writers. Returns for how long later writers
/// waited together with this transaction.
pub(super) async fn exclude_writers(
    connection: &mut PgConnection,
    organization: Uuid,
) -> Result<Duration, sqlx::Error> {
    exclude_maintenance(connection).await?;
    let started = Instant::now();
    sqlx::query("SELECT pg_advisory_xact_lock(app.placement_lock($1))")
        .bind(organization)
        .execute(connection)
        .await?;
    Ok(started.elapsed())
}

/// Reserves the organization for this command: while the connection lives, no other command moves
/// the organization or deletes copies of it.
pub(super) async fn lock_move(
    connection: &mut PgConnection,
    organization: &super::organization::Organization,
) -> Result<(), Failure> {
    // The lock of a killed command lasts until PostgreSQL notices the closed connection.
    connection.execute("SET client_connection_check_interval = '500ms'").await?;
    for _ in 0..6 {
        let mover: bool = sqlx::query_scalar(
            "SELECT pg_try_advisory_lock(hashtextextended('mover ' || $1::text, 0))",
        )
        .bind(organization.id)
        .fetch_one(&mut *connection)
        .await?;
        if mover {
            return Ok(());
        }
        tokio::time::sleep(PAUSE / 2).await;
    }
    Err(Failure::new(format!(
        "another command is moving {}. Wait until it has finished.",
        organization.name
    )))
}

/// Waits until the current transactions that match `condition` have ended. The condition may refer
/// to `pg_locks l` and `pg_stat_activity a`.
pub(super) async fn wait_for_older_transactions(
    connection: &mut PgConnection,
    what: &str,
    condition: &str,
    tables: &[String],
) -> Result<(), sqlx::Error> {
    let sql = format!(
        "SELECT DISTINCT l.virtualtransaction FROM pg_locks l JOIN pg_stat_activity a USING (pid)
         WHERE a.datname = current_database() AND l.pid <> pg_backend_pid() AND cardinality($1::text[]) >= 0 AND {condition}"
    );
    let older: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(tables)
        .fetch_all(&mut *connection)
        .await?;
    let mut reported = Instant::now();
    loop {
        let left: Vec<i32> = sqlx::query_scalar(
            "SELECT pid FROM pg_locks WHERE locktype = 'virtualxid' AND virtualtransaction = ANY($1)",
        )
        .bind(&older)
        .fetch_all(&mut *connection)
        .await?;
        if left.is_empty() {
            return Ok(());
        }
        if reported.elapsed() > 5 * PAUSE {
            reported = Instant::now();
            eprintln!("waiting for {what} (pid {left:?}) …");
        }
        tokio::time::sleep(PAUSE / 20).await;
    }
}
