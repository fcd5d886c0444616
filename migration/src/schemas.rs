//! Migrates dedicated schemas, several at a time, each in a transaction that also records its
//! version: a run that is killed continues with the next one, and a schema that fails does not
//! affect the others.
//!
//! A schema that is kept after its organization has moved away stays as it is: it is not in use.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use pg::{Client, ConnectOptions};
use pg_migrate::{SESSION, finish};
use uuid::Uuid;

use crate::{
    placement::schema_of,
    step::{Step, for_schemas, includes, version},
};

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

/// Applies the missing steps to every schema, `concurrency` at a time. The caller holds the lock of
/// migrations. Fails without a connection: the others could not be migrated either.
pub(crate) async fn migrate(
    options: &ConnectOptions,
    steps: &[Step],
    concurrency: usize,
    report: fn(&str),
) -> pg::Result<Schemas> {
    let steps = &for_schemas(steps);
    let connection = connect(options).await?;
    let behind: Vec<Uuid> = connection
        .query(
            "SELECT organization_id FROM app.placements
             WHERE 'schema' IN (placement, moving_to) AND version IS DISTINCT FROM $1 ORDER BY organization_id",
            &[&version(steps)],
        )
        .await?;
    let (total, mut done, mut reported) = (behind.len(), 0, Instant::now());
    let idle = &Mutex::new(vec![connection]);
    let migrate = |organization| migrate_one(organization, steps, options, idle);
    let mut outcomes = stream::iter(behind).map(migrate).buffer_unordered(concurrency.max(1));
    let mut schemas = Schemas::default();
    while let Some((organization, outcome)) = outcomes.try_next().await? {
        schemas.note(organization, outcome);
        done += 1;
        if reported.elapsed() >= REPORT_INTERVAL {
            report(&format!("migrating schemas: {done} of {total}"));
            reported = Instant::now();
        }
    }
    schemas.given_up.sort_unstable();
    schemas.failed.sort();
    Ok(schemas)
}

impl Schemas {
    fn note(&mut self, organization: Uuid, outcome: Result<Outcome, Failure>) {
        match outcome {
            Ok(Outcome::Migrated) => self.migrated += 1,
            Ok(Outcome::GivenUp) => self.given_up.push(organization),
            Ok(Outcome::Unneeded) => {}
            Err(error) => {
                let reason = error.to_string().replace('\n', " ");
                self.failed.push((schema_of(organization), reason));
            }
        }
    }
}

async fn connect(options: &ConnectOptions) -> pg::Result<Client> {
    let client = Client::connect(options).await?;
    client.batch(SESSION).await?;
    client.batch("SET ROLE tenantry_owner; SET search_path = pg_catalog, pg_temp").await?;
    Ok(client)
}

/// Why a schema was not migrated.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{}", .0.explained())]
    Database(#[from] pg::Error),
    #[error("its version {0:?} is unknown to this program")]
    UnknownVersion(String),
}

/// Migrates a schema over an idle connection, or a new one.
async fn migrate_one(
    organization: Uuid,
    steps: &[Step],
    options: &ConnectOptions,
    idle: &Mutex<Vec<Client>>,
) -> pg::Result<(Uuid, Result<Outcome, Failure>)> {
    let reused = idle.lock().pop();
    let mut connection = match reused {
        Some(connection) => connection,
        None => connect(options).await?,
    };
    let outcome = with_retries(&mut connection, organization, steps).await;
    // After an error of the database, the connection may be unusable.
    if !matches!(outcome, Err(Failure::Database(_))) {
        idle.lock().push(connection);
    }
    Ok((organization, outcome))
}

async fn with_retries(
    connection: &mut Client,
    organization: Uuid,
    steps: &[Step],
) -> Result<Outcome, Failure> {
    let mut attempt = 1;
    loop {
        let transaction = connection.begin().await?;
        let outcome = one(&transaction, organization, steps).await;
        match finish(transaction, outcome).await {
            // The schema is in use: another try may succeed.
            Err(Failure::Database(error))
                if attempt < TRIES && error.has_code(&["55P03", "40P01", "40001"]) =>
            {
                tokio::time::sleep(Duration::from_millis(100 * u64::from(attempt))).await;
            }
            outcome => return outcome,
        }
        attempt += 1;
    }
}

async fn one(connection: &Client, organization: Uuid, steps: &[Step]) -> Result<Outcome, Failure> {
    connection.batch(LOCK_WAIT).await?;
    let found: Option<(Option<String>, String, Option<String>)> = connection
        .query_opt(
            "SELECT version, placement, moving_to FROM app.placements WHERE organization_id = $1 FOR UPDATE",
            &[&organization],
        )
        .await?;
    let Some((known, placement, moving_to)) = found else {
        return Ok(Outcome::Unneeded);
    };
    let (known, newest) = (known.unwrap_or_default(), version(steps));
    if known == newest {
        return Ok(Outcome::Unneeded);
    }
    let schema = schema_of(organization);
    let is_placed = placement == "schema";
    let sql = if is_placed {
        if known.split_whitespace().any(|name| steps.iter().all(|step| step.name != name)) {
            return Err(Failure::UnknownVersion(known));
        }
        let missing = steps.iter().filter(|step| !includes(&known, step.name));
        missing.map(|step| step.dedicated(&schema)).collect::<String>()
    } else {
        format!("DROP SCHEMA IF EXISTS {schema} CASCADE")
    };
    connection.batch(&sql).await?;
    // The rows that an interrupted move to the shared tables had copied are an expired copy.
    connection
        .execute(
            "UPDATE app.placements SET version = $2, moving_to = NULL,
             old_placement = CASE WHEN placement = 'schema' THEN coalesce(moving_to, old_placement) END,
             keep_old_until = CASE WHEN placement = 'schema' THEN CASE WHEN moving_to IS NULL THEN keep_old_until ELSE now() END END
         WHERE organization_id = $1",
            &[&organization, &is_placed.then_some(newest)],
        )
        .await?;
    if moving_to.is_none() {
        return Ok(Outcome::Migrated);
    }
    connection
        .execute("DELETE FROM app.pending_changes WHERE organization_id = $1", &[&organization])
        .await?;
    Ok(Outcome::GivenUp)
}
