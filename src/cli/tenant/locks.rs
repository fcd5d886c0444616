//! Locks and waits of maintenance commands. They give up a lock after a second and retry, so that
//! requests never queue behind them for long.

use std::time::{Duration, Instant};

use pg::{Client, ClientTransaction};
use uuid::Uuid;

use super::Failure;

/// Commands that change rows of many organizations outside of sessions hold this lock shared. A
/// command that changes a placement holds it exclusively.
const MAINTENANCE_LOCK: &str = "hashtextextended('tenantry maintenance', 0)";

const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

/// Why an attempt failed.
pub(super) enum AttemptError {
    /// Another transaction is in the way: a lock was not available, or it changed the same rows,
    /// deleted a referenced row, or took a key that it will release. A later attempt may succeed.
    Conflict(pg::Error),
    Failed(Failure),
}

impl From<pg::Error> for AttemptError {
    fn from(error: pg::Error) -> Self {
        if error.has_code(&["55P03", "40P01", "40001", "23503", "23505"]) {
            Self::Conflict(error)
        } else {
            Self::Failed(error.into())
        }
    }
}

impl From<Failure> for AttemptError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Repeats `work` until no other transaction is in its way.
pub(super) async fn retry_on_conflict<C, T>(
    connection: &mut C,
    what: &str,
    mut work: impl AsyncFnMut(&mut C) -> Result<T, AttemptError>,
) -> Result<T, Failure> {
    for attempt in 1.. {
        match work(connection).await {
            Err(AttemptError::Conflict(error)) if attempt == TRIES => {
                return Err(Failure::new(format!(
                    "{what}: other transactions were in the way for {TRIES} attempts. Run the command again. ({error})"
                )));
            }
            Err(AttemptError::Conflict(_)) => {
                if attempt == 1 {
                    eprintln!("{what}: waiting for other transactions …");
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(AttemptError::Failed(failure)) => return Err(failure),
            Ok(done) => return Ok(done),
        }
    }
    unreachable!("the loop ends by returning")
}

/// Repeats `work` in a transaction that excludes other maintenance, and the writers of an
/// organization, until no other transaction is in its way.
pub(super) async fn exclusively<T>(
    connection: &mut Client,
    what: &str,
    writers_of: Option<Uuid>,
    work: impl AsyncFn(&Client) -> Result<T, AttemptError>,
) -> Result<T, Failure> {
    retry_on_conflict(connection, what, async |connection: &mut Client| {
        let transaction = connection.begin().await?;
        match writers_of {
            Some(organization) => drop(exclude_writers(&transaction, organization).await?),
            None => exclude_maintenance(&transaction).await?,
        }
        let done = work(&transaction).await?;
        transaction.commit().await?;
        Ok(done)
    })
    .await
}

/// Begins a transaction that reads one snapshot.
pub(super) async fn begin_snapshot(connection: &mut Client) -> pg::Result<ClientTransaction<'_>> {
    let snapshot = connection.begin().await?;
    snapshot.batch("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
    Ok(snapshot)
}

/// Begins a transaction that writes a copy: its changes are neither recorded nor mirrored.
pub(super) async fn begin_copying(connection: &mut Client) -> pg::Result<ClientTransaction<'_>> {
    let transaction = connection.begin().await?;
    transaction.batch("SET LOCAL app.replicating = 'on'").await?;
    Ok(transaction)
}

/// Keeps all organizations in their placements until the transaction ends.
pub(in crate::cli) async fn exclude_moves(connection: &Client) -> pg::Result<()> {
    connection.batch(&format!("SELECT pg_advisory_xact_lock_shared({MAINTENANCE_LOCK})")).await
}

/// Excludes other maintenance until the transaction ends.
pub(super) async fn exclude_maintenance(connection: &Client) -> pg::Result<()> {
    let lock = format!("SELECT pg_advisory_xact_lock({MAINTENANCE_LOCK})");
    connection.batch(&format!("SET LOCAL lock_timeout = '1s'; {lock}")).await
}

/// Excludes other maintenance and the organization's writers. Returns for how long later writers
/// waited together with this transaction.
pub(super) async fn exclude_writers(
    connection: &Client,
    organization: Uuid,
) -> pg::Result<Duration> {
    exclude_maintenance(connection).await?;
    let started = Instant::now();
    connection
        .execute("SELECT pg_advisory_xact_lock(app.placement_lock($1))", &[&organization])
        .await?;
    Ok(started.elapsed())
}

/// Reserves the organization for this command: while the connection lives, no other command moves
/// the organization or deletes copies of it.
pub(super) async fn lock_move(
    connection: &Client,
    organization: &super::organization::Organization,
) -> Result<(), Failure> {
    // The lock of a killed command lasts until PostgreSQL notices the closed connection.
    connection.batch("SET client_connection_check_interval = '500ms'").await?;
    for _ in 0..6 {
        let mover: bool = connection
            .query_one(
                "SELECT pg_try_advisory_lock(hashtextextended('mover ' || $1::text, 0))",
                &[&organization.id],
            )
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
    connection: &Client,
    what: &str,
    condition: &str,
    tables: &[String],
) -> pg::Result<()> {
    let sql = format!(
        "SELECT DISTINCT l.virtualtransaction FROM pg_locks l JOIN pg_stat_activity a USING (pid)
         WHERE a.datname = current_database() AND l.pid <> pg_backend_pid() AND cardinality($1::text[]) >= 0 AND {condition}"
    );
    let older: Vec<String> = connection.query(&sql, &[&tables]).await?;
    let mut reported = Instant::now();
    loop {
        let left: Vec<i32> = connection
            .query(
                "SELECT pid FROM pg_locks WHERE locktype = 'virtualxid' AND virtualtransaction = ANY($1)",
                &[&older],
            )
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
