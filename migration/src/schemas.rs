//! Brings the schemas of organizations to the newest step, several at a time, each in a transaction
//! that also notes how far it is: a run that is killed goes on with the next one, and what fails in
//! one schema is its own.
//!
//! A schema that is kept as a copy after its organization has moved away is left as it is: nobody
//! works in it.
#![expect(clippy::disallowed_types, reason = "this is where schemas of tenants are migrated")]

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, PgPool,
    error::DatabaseError,
    postgres::{PgConnectOptions, PgPoolOptions},
    types::Uuid,
};

use crate::{
    Error, Run,
    placement::{SCHEMA_STEPS, SCHEMA_VERSION, SchemaStep, schema_of},
};

/// Whoever waits for a lock makes everybody wait behind: rather try again.
const LOCK_WAIT: &str = "SET LOCAL lock_timeout = '1s'";
const TRIES: u32 = 10;

/// Between two words about how far a run is.
const TELL: Duration = Duration::from_secs(3);

/// What became of the schemas that lacked steps.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Schemas {
    /// How many have all steps now.
    pub migrated: usize,
    /// The organizations whose move was given up: it was interrupted, and what it had brought over
    /// is of before the steps.
    pub given_up: Vec<Uuid>,
    /// The schemas that are as they were, and why.
    pub failed: Vec<(String, String)>,
}

enum Outcome {
    Migrated,
    GivenUp,
    /// Somebody else was faster, or the organization has gone.
    Nothing,
}

/// Brings every schema that lacks steps to the newest. The caller holds the lock of migrations.
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
    let behind: Vec<Uuid> = sqlx::query_scalar(
        "SELECT organization_id FROM app.placements
         WHERE 'schema' IN (home, moving_to) AND coalesce(version, '') < $1 ORDER BY organization_id",
    )
    .bind(SCHEMA_VERSION)
    .fetch_all(pool)
    .await?;
    let total = behind.len();
    let mut outcomes = stream::iter(behind)
        .map(async |organization| {
            // Without a connection none of the others could be migrated either.
            let mut connection = pool.acquire().await?;
            let outcome = patiently(&mut connection, organization).await;
            Ok::<_, sqlx::Error>((organization, outcome))
        })
        .buffer_unordered(run.concurrency.max(1));
    let mut schemas = Schemas::default();
    let (mut done, mut told) = (0, Instant::now());
    while let Some(outcome) = outcomes.next().await {
        let (organization, outcome) = outcome?;
        match outcome {
            Ok(Outcome::Migrated) => schemas.migrated += 1,
            Ok(Outcome::GivenUp) => schemas.given_up.push(organization),
            Ok(Outcome::Nothing) => {}
            Err(error) => schemas.failed.push((schema_of(organization), reason(&error))),
        }
        done += 1;
        if told.elapsed() >= TELL {
            (run.progress)(&format!("migrating schemas: {done} of {total}"));
            told = Instant::now();
        }
    }
    schemas.given_up.sort_unstable();
    schemas.failed.sort();
    Ok(schemas)
}

async fn patiently(
    connection: &mut PgConnection,
    organization: Uuid,
) -> Result<Outcome, sqlx::Error> {
    for attempt in 1.. {
        let mut transaction = connection.begin().await?;
        let outcome = match one(&mut transaction, organization).await {
            Ok(outcome) => transaction.commit().await.map(|()| outcome),
            Err(error) => {
                // A connection that cannot take it back is gone, and its transaction with it.
                let _ = transaction.rollback().await;
                Err(error)
            }
        };
        match outcome {
            Err(error) if attempt < TRIES && busy(&error) => {
                tokio::time::sleep(Duration::from_millis(100 * u64::from(attempt))).await;
            }
            outcome => return outcome,
        }
    }
    unreachable!("the loop ends by returning")
}

async fn one(connection: &mut PgConnection, organization: Uuid) -> Result<Outcome, sqlx::Error> {
    connection.execute(LOCK_WAIT).await?;
    let found: Option<(Option<String>, String, Option<String>)> = sqlx::query_as(
        "SELECT version, home, moving_to FROM app.placements WHERE organization_id = $1 FOR UPDATE",
    )
    .bind(organization)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((version, home, moving_to)) = found else {
        return Ok(Outcome::Nothing);
    };
    let missing = missing(version.as_deref());
    if missing.is_empty() {
        return Ok(Outcome::Nothing);
    }
    let schema = schema_of(organization);
    let sql = if home == "schema" {
        missing.iter().map(|(_, of_schema)| of_schema(&schema)).collect()
    } else {
        format!("DROP SCHEMA IF EXISTS {schema} CASCADE")
    };
    connection.execute(AssertSqlSafe(sql)).await?;
    // What a move to the shared tables had copied until it was given up is an old copy whose time
    // is over.
    sqlx::query(
        "UPDATE app.placements SET version = $2, moving_to = NULL,
             old_home = CASE WHEN home = 'schema' THEN coalesce(moving_to, old_home) END,
             keep_old_until = CASE WHEN home = 'schema' THEN CASE WHEN moving_to IS NULL THEN keep_old_until ELSE now() END END
         WHERE organization_id = $1",
    )
    .bind(organization)
    .bind((home == "schema").then_some(SCHEMA_VERSION))
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

/// The steps that a schema lacks whose newest is this; without one it is of the step that brought
/// schemas.
fn missing(version: Option<&str>) -> &'static [SchemaStep] {
    const STEPS: &[SchemaStep] = &SCHEMA_STEPS;
    let had = STEPS.partition_point(|(name, _)| version.is_some_and(|version| *name <= version));
    &STEPS[had..]
}

/// Somebody works there: another try may succeed.
fn busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40P01" | "40001"))
}

/// What PostgreSQL says, in one line.
fn reason(error: &sqlx::Error) -> String {
    let text = error
        .as_database_error()
        .map_or_else(|| error.to_string(), |error| error.message().to_owned());
    text.replace('\n', " ")
}
