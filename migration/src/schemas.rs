//! Migrates dedicated schemas, several at a time, each in a transaction that also records its
//! version: a run that is killed continues with the next one, and a schema that fails does not
//! affect the others.
//!
//! A schema that is kept after its organization has moved away stays as it is: it is not in use.
#![expect(clippy::disallowed_types, reason = "this is where schemas of tenants are migrated")]

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, PgPool,
    error::DatabaseError,
    postgres::{PgConnectOptions, PgPoolOptions},
    types::Uuid,
};

use crate::{Error, Run, Step, placement::schema_of, step::schema_versions};

/// While this waits for a lock, all later statements on the table wait as well: so it tries again
/// instead.
const LOCK_WAIT: &str = "SET LOCAL lock_timeout = '1s'";
const TRIES: u32 = 10;

/// Between two reports of progress.
const REPORT_INTERVAL: Duration = Duration::from_secs(3);

/// The dedicated schemas that lacked steps.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Schemas {
    /// How many have all steps now.
    pub migrated: usize,
    /// The organizations whose interrupted move was given up, because the rows that it had copied
    /// are those of tables before the steps.
    pub given_up: Vec<Uuid>,
    /// The schemas that are unchanged, and why.
    pub failed: Vec<(String, String)>,
}

enum Outcome {
    Migrated,
    GivenUp,
    /// Another run has migrated it, or the organization was deleted.
    Unneeded,
}

/// Applies the missing steps to every schema. The caller holds the lock of migrations.
pub(crate) async fn migrate(options: PgConnectOptions, run: &Run) -> Result<Schemas, Error> {
    let pool = PgPoolOptions::new()
        .max_connections(u32::try_from(run.concurrency.max(1)).unwrap_or(u32::MAX))
        .after_connect(|connection, _| {
            Box::pin(async move {
                let acting = "SET ROLE tenantry_owner; SET search_path = pg_catalog, pg_temp;
                              SET client_min_messages = warning";
                connection.execute(acting).await.map(drop)
            })
        })
        .connect_with(options)
        .await?;
    let outcome = all(&pool, run).await;
    pool.close().await;
    Ok(outcome?)
}

async fn all(pool: &PgPool, run: &Run) -> Result<Schemas, sqlx::Error> {
    let steps = &schema_versions(&run.steps);
    let behind: Vec<Uuid> = sqlx::query_scalar(
        "SELECT organization_id FROM app.placements
         WHERE 'schema' IN (placement, moving_to) AND coalesce(version, '') < $1 ORDER BY organization_id",
    )
    .bind(steps.last().map_or("", |step| step.name))
    .fetch_all(pool)
    .await?;
    let total = behind.len();
    let mut outcomes = stream::iter(behind)
        .map(async |organization| {
            // Without a connection the others could not be migrated either.
            let mut connection = pool.acquire().await?;
            let outcome = with_retries(&mut connection, organization, steps).await;
            Ok::<_, sqlx::Error>((organization, outcome))
        })
        .buffer_unordered(run.concurrency.max(1));
    let mut schemas = Schemas::default();
    let (mut done, mut reported) = (0, Instant::now());
    while let Some(outcome) = outcomes.next().await {
        let (organization, outcome) = outcome?;
        match outcome {
            Ok(Outcome::Migrated) => schemas.migrated += 1,
            Ok(Outcome::GivenUp) => schemas.given_up.push(organization),
            Ok(Outcome::Unneeded) => {}
            Err(error) => schemas.failed.push((schema_of(organization), reason(&error))),
        }
        done += 1;
        if reported.elapsed() >= REPORT_INTERVAL {
            (run.progress)(&format!("migrating schemas: {done} of {total}"));
            reported = Instant::now();
        }
    }
    schemas.given_up.sort_unstable();
    schemas.failed.sort();
    Ok(schemas)
}

async fn with_retries(
    connection: &mut PgConnection,
    organization: Uuid,
    steps: &[Step],
) -> Result<Outcome, sqlx::Error> {
    for attempt in 1.. {
        let mut transaction = connection.begin().await?;
        let outcome = match one(&mut transaction, organization, steps).await {
            Ok(outcome) => transaction.commit().await.map(|()| outcome),
            Err(error) => {
                // A connection that cannot roll back is lost, and its transaction with it.
                let _ = transaction.rollback().await;
                Err(error)
            }
        };
        match outcome {
            Err(error) if attempt < TRIES && is_busy(&error) => {
                tokio::time::sleep(Duration::from_millis(100 * u64::from(attempt))).await;
            }
            outcome => return outcome,
        }
    }
    unreachable!("the loop ends by returning")
}

async fn one(
    connection: &mut PgConnection,
    organization: Uuid,
    steps: &[Step],
) -> Result<Outcome, sqlx::Error> {
    connection.execute(LOCK_WAIT).await?;
    let found: Option<(Option<String>, String, Option<String>)> = sqlx::query_as(
        "SELECT version, placement, moving_to FROM app.placements WHERE organization_id = $1 FOR UPDATE",
    )
    .bind(organization)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((version, placement, moving_to)) = found else {
        return Ok(Outcome::Unneeded);
    };
    let (version, newest) = (version.unwrap_or_default(), steps.last().map(|step| step.name));
    if newest == Some(&*version) {
        return Ok(Outcome::Unneeded);
    }
    let schema = schema_of(organization);
    let is_placed = placement == "schema";
    let sql = if is_placed {
        let Some(at) = steps.iter().position(|step| step.name == version) else {
            return Err(sqlx::Error::Configuration(
                format!("its version {version:?} is unknown to this program").into(),
            ));
        };
        let missing = steps[at + 1..].iter().filter_map(|step| step.schema);
        missing.map(|of_schema| of_schema(&schema)).collect::<String>()
    } else {
        format!("DROP SCHEMA IF EXISTS {schema} CASCADE")
    };
    connection.execute(AssertSqlSafe(sql)).await?;
    // The rows that an interrupted move to the shared tables had copied are an expired copy.
    sqlx::query(
        "UPDATE app.placements SET version = $2, moving_to = NULL,
             old_placement = CASE WHEN placement = 'schema' THEN coalesce(moving_to, old_placement) END,
             keep_old_until = CASE WHEN placement = 'schema' THEN CASE WHEN moving_to IS NULL THEN keep_old_until ELSE now() END END
         WHERE organization_id = $1",
    )
    .bind(organization)
    .bind(newest.filter(|_| is_placed))
    .execute(&mut *connection)
    .await?;
    if moving_to.is_none() {
        return Ok(Outcome::Migrated);
    }
    sqlx::query("DELETE FROM app.pending_changes WHERE organization_id = $1")
        .bind(organization)
        .execute(connection)
        .await?;
    Ok(Outcome::GivenUp)
}

/// The schema is in use: another try may succeed.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40P01" | "40001"))
}

/// The message of an error, in one line.
fn reason(error: &sqlx::Error) -> String {
    let text = match error {
        sqlx::Error::Configuration(reason) => reason.to_string(),
        error => error
            .as_database_error()
            .map_or_else(|| error.to_string(), |error| error.message().to_owned()),
    };
    text.replace('\n', " ")
}
