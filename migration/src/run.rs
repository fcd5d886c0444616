//! Runs a migration: one at a time for a database, as the owner.

use std::time::Duration;

use pg::{Client, ConnectOptions};

use crate::{
    error::Error,
    functions,
    names::{LOCK, SCHEMAS, SESSION},
    roles::{self, Passwords},
    schemas::{self, Schemas},
    server,
    step::Step,
    steps::{STEPS, Status, status},
};

/// The default of [`Run::concurrency`].
pub const CONCURRENCY: usize = 4;

/// How to migrate.
#[derive(Clone, Debug)]
pub struct Run {
    /// The steps to apply: [`STEPS`]. Fewer leave the database as an older version did, without
    /// functions; more try what later steps may do.
    pub steps: Vec<Step>,
    /// How many dedicated schemas to migrate at the same time, each over its own connection.
    pub concurrency: usize,
    /// Receives reports of the progress of a long run.
    pub progress: fn(&str),
}

impl Default for Run {
    fn default() -> Self {
        Self { steps: STEPS.to_vec(), concurrency: CONCURRENCY, progress: |_| () }
    }
}

/// The result of a migration.
#[derive(Debug)]
pub struct Report {
    /// The names of the steps that this run applied, oldest first.
    pub applied: Vec<String>,
    /// The names of the functions whose text had changed.
    pub functions: Vec<String>,
    /// The dedicated schemas that lacked steps.
    pub schemas: Schemas,
}

/// Brings the database up to date; `app_password` becomes the password of the app role.
///
/// # Errors
///
/// As [`migrate_with`].
pub async fn migrate(options: ConnectOptions, app_password: Option<&str>) -> Result<Report, Error> {
    let passwords = Passwords { app: app_password, ..Passwords::default() };
    migrate_with(options, passwords, &Run::default()).await
}

/// Brings the database up to date.
///
/// # Errors
///
/// When the database cannot be reached, the login lacks rights, or a step fails; a failed step
/// changes nothing. A dedicated schema that could not be migrated is no error: it is in the report.
pub async fn migrate_with(
    options: ConnectOptions,
    passwords: Passwords<'_>,
    run: &Run,
) -> Result<Report, Error> {
    // One connection, so that the lock, the role and the search path hold for every step.
    let mut client = Client::connect_exclusively(&options).await?;
    let outcome = locked(&mut client, &options, passwords, run).await;
    client.close().await;
    outcome
}

async fn locked(
    client: &mut Client,
    options: &ConnectOptions,
    passwords: Passwords<'_>,
    run: &Run,
) -> Result<Report, Error> {
    server::check(client).await?;
    client.batch(SESSION).await?;
    lock(client, run.progress).await?;
    check_schemas(client).await?;
    let known = match known_steps(client).await {
        // A login that has not been able to act as the owner yet.
        Err(error) if error.has_code(&["42501"]) => {
            roles::ensure_membership(client, options).await?;
            client.batch("SET ROLE tenantry_owner").await?;
            let known = known_steps(client).await?;
            client.batch("RESET ROLE").await?;
            known
        }
        known => known?,
    };
    if status(&known) == Status::Incompatible {
        return Err(Error::Incompatible);
    }
    if known.iter().any(|name| run.steps.iter().all(|step| step.name != name)) {
        return Err(Error::Newer);
    }
    roles::ensure(client, options, passwords).await?;
    client.batch("SET ROLE tenantry_owner; SET search_path = migration").await?;
    let mut applied = Vec::new();
    for step in run.steps.iter().filter(|step| known.iter().all(|name| name != step.name)) {
        let name = step.name;
        apply(client, step).await.map_err(|cause| Error::Step { name, cause })?;
        applied.push(step.name.to_owned());
    }
    if run.steps.len() < STEPS.len() {
        return Ok(Report { applied, functions: Vec::new(), schemas: Schemas::default() });
    }
    let functions = functions::apply(client).await?;
    client.execute("SELECT audit.ensure_partitions()", &[]).await?;
    let schemas = schemas::migrate(options, &run.steps, run.concurrency, run.progress).await?;
    Ok(Report { applied, functions, schemas })
}

/// Creates the lists of applied steps, applied functions, and tables of organizations.
const LISTS: &str = "CREATE SCHEMA migration;
    CREATE TABLE migration.seaql_migrations (
        version    varchar NOT NULL PRIMARY KEY,
        applied_at bigint NOT NULL
    );
    CREATE TABLE migration.functions (
        name       text PRIMARY KEY,
        digest     bytea NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE migration.tenant_tables (
        name     text PRIMARY KEY,
        key      text NOT NULL,
        mirrored boolean NOT NULL,
        -- Referenced tables first.
        position integer GENERATED ALWAYS AS IDENTITY
    );
    GRANT USAGE ON SCHEMA migration TO tenantry_app, tenantry_system;
    GRANT SELECT ON ALL TABLES IN SCHEMA migration TO tenantry_app, tenantry_system";

async fn apply(client: &mut Client, step: &Step) -> pg::Result<()> {
    let transaction = client.begin().await?;
    let is_first = "SELECT to_regclass('migration.seaql_migrations') IS NULL";
    if transaction.query_one(is_first, &[]).await? {
        transaction.batch(LISTS).await?;
    }
    transaction.batch(&step.shared()).await?;
    let record = "INSERT INTO migration.seaql_migrations (version, applied_at)
        VALUES ($1, extract(epoch FROM now())::bigint)";
    transaction.execute(record, &[&step.name]).await?;
    transaction.commit().await
}

async fn lock(connection: &Client, progress: fn(&str)) -> Result<(), Error> {
    // The backend of a run that has just ended may need a moment to exit.
    for pause in [Duration::from_millis(200), Duration::ZERO] {
        let free: bool = connection.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await?;
        if free {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
    }
    progress("waiting for another migration, or for organizations that are being moved …");
    connection.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    Ok(())
}

/// The names of the steps that the database has.
async fn known_steps(client: &Client) -> pg::Result<Vec<String>> {
    let is_migrated = "SELECT to_regclass('migration.seaql_migrations') IS NOT NULL";
    if !client.query_one::<bool>(is_migrated, &[]).await? {
        return Ok(Vec::new());
    }
    client.query("SELECT version FROM migration.seaql_migrations", &[]).await
}

/// Refuses a database that has not been migrated, but has schemas of these names.
async fn check_schemas(client: &Client) -> Result<(), Error> {
    let foreign = "SELECT nspname::text FROM pg_namespace
         WHERE nspname = ANY ($1 || ARRAY['migration'])
           AND NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                           WHERE n.nspname = 'migration' AND c.relname = 'seaql_migrations')
         ORDER BY nspname";
    match client.query_opt(foreign, &[&SCHEMAS.as_slice()]).await? {
        Some(schema) => Err(Error::ForeignSchema(schema)),
        None => Ok(()),
    }
}
