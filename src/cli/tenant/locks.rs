//! How maintenance waits for others without making others wait for it.

use std::time::{Duration, Instant};

use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use super::Failure;

/// Held in common by commands that change rows of many organizations past their sessions, and alone
/// by whoever changes where one lives.
pub(in crate::cli) const MAINTENANCE_LOCK: &str = "hashtextextended('tenantry maintenance', 0)";

const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

/// Tries until nobody is in the way.
pub(super) async fn with_timeout<C, T>(
    connection: &mut C,
    what: &str,
    mut work: impl AsyncFnMut(&mut C) -> Result<T, sqlx::Error>,
) -> Result<T, Failure> {
    for attempt in 1.. {
        match work(connection).await {
            Err(error) if passes(&error) => {
                if attempt == TRIES {
                    return Err(Failure::new(format!(
                        "{what}: others were in the way for too long, try again ({error})"
                    )));
                }
                if attempt == 1 {
                    eprintln!("{what}: waiting for others …");
                }
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return Ok(outcome?),
        }
    }
    unreachable!("the loop ends by returning")
}

/// Waiting for a lock was given up, or somebody changed the same, took away what was referred to,
/// or made room for what we bring.
fn passes(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["55P03", "40P01", "40001", "23503", "23505"].contains(&&*code))
}

/// No other maintenance runs until the transaction ends.
pub(super) async fn exclude_maintenance(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection.execute("SET LOCAL lock_timeout = '1s'").await?;
    let lock = format!("SELECT pg_advisory_xact_lock({MAINTENANCE_LOCK})");
    connection.execute(sqlx::AssertSqlSafe(lock)).await?;
    Ok(())
}

/// The same, and nobody writes in the organization. Answers for how long those who came after us
/// waited with us.
pub(super) async fn exclude_writers(
    connection: &mut PgConnection,
    organization: Uuid,
) -> Result<Duration, sqlx::Error> {
    exclude_maintenance(connection).await?;
    let begun = Instant::now();
    sqlx::query("SELECT pg_advisory_xact_lock(app.placement_lock($1))")
        .bind(organization)
        .execute(connection)
        .await?;
    Ok(begun.elapsed())
}

/// For as long as the connection lives nobody else moves the organization, or drops copies of it.
pub(super) async fn become_mover(
    connection: &mut PgConnection,
    organization: &super::organization::Organization,
) -> Result<(), Failure> {
    // Whoever was killed lets go when PostgreSQL notices, which it is told to do soon.
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
    Err(Failure::new(format!("somebody else is moving {} now", organization.name)))
}

/// Waits until the transactions that run now, and that `condition` on `pg_locks l` and
/// `pg_stat_activity a` describes, have ended.
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
    let mut told = Instant::now();
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
        if told.elapsed() > 5 * PAUSE {
            told = Instant::now();
            eprintln!("waiting for {what} (pid {left:?}) …");
        }
        tokio::time::sleep(PAUSE / 20).await;
    }
}
