//! Runs a migration: one at a time for a database, as the owner.

use std::time::Duration;

use pg::{Client, ConnectOptions};

use crate::{INCOMPATIBLE, STEPS, Schemas, Status, Step, functions, roles, schemas, status};

/// Migrations of the same database wait for each other on this advisory lock ("tenantry" in ASCII).
pub(crate) const LOCK: i64 = 0x7465_6e61_6e74_7279;

/// Why a database could not be migrated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused something, or could not be reached.
    #[error(transparent)]
    Database(#[from] pg::Error),
    /// A step failed and was rolled back.
    #[error("the step {0} failed: {1}")]
    Step(&'static str, pg::Error),
    /// The steps of the database are not those of this program.
    #[error("{INCOMPATIBLE}")]
    Incompatible,
    /// A newer tenantry migrated the database.
    #[error("the database was migrated by a newer version of tenantry. Use that version.")]
    Newer,
    /// The login may not prepare the roles.
    #[error(
        "{login} cannot prepare the roles ({cause}): use a superuser, or a role with CREATEROLE that owns the database and administers tenantry's roles"
    )]
    Login {
        /// The role of the login.
        login: String,
        /// PostgreSQL's message.
        cause: String,
    },
    /// One of the roles has rights that bypass row-level security.
    #[error(
        "the role {0} has rights that bypass row-level security: run ALTER ROLE {0} NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION"
    )]
    PowerfulRole(String),
}

/// The passwords that the login roles get; a role without one keeps its password.
#[derive(Clone, Copy, Default)]
pub struct Passwords<'a> {
    /// Of the role in which servers answer requests.
    pub app: Option<&'a str>,
    /// Of the role of background work.
    pub system: Option<&'a str>,
}

impl std::fmt::Debug for Passwords<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Passwords(…)")
    }
}

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
    let mut client = Client::connect(&options).await?;
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
    lock(client, run.progress).await?;
    let known = known_steps(client).await?;
    if status(&known) == Status::Incompatible {
        return Err(Error::Incompatible);
    }
    if known.iter().any(|name| run.steps.iter().all(|step| step.name != name)) {
        return Err(Error::Newer);
    }
    let prepared = roles::ensure(client, passwords).await;
    prepared.map_err(|error| of_login(error, options))?;
    client.batch(PREPARE).await?;
    let mut applied = Vec::new();
    for step in run.steps.iter().filter(|step| known.iter().all(|name| name != step.name)) {
        apply(client, step).await.map_err(|error| Error::Step(step.name, error))?;
        applied.push(step.name.to_owned());
    }
    if run.steps.len() < STEPS.len() {
        return Ok(Report { applied, functions: Vec::new(), schemas: Schemas::default() });
    }
    let functions = functions::apply(client).await?;
    let schemas = schemas::migrate(options, run).await?;
    Ok(Report { applied, functions, schemas })
}

/// Acts as the owner, and creates the list of applied steps.
const PREPARE: &str = "SET ROLE tenantry_owner;
    SET client_min_messages = warning;
    CREATE SCHEMA IF NOT EXISTS migration;
    GRANT USAGE ON SCHEMA migration TO tenantry_app, tenantry_system;
    SET search_path = migration;
    CREATE TABLE IF NOT EXISTS migration.seaql_migrations (
        version    varchar NOT NULL PRIMARY KEY,
        applied_at bigint NOT NULL
    );
    GRANT SELECT ON migration.seaql_migrations TO tenantry_app, tenantry_system";

async fn apply(client: &mut Client, step: &Step) -> pg::Result<()> {
    let transaction = client.begin().await?;
    transaction.batch(&(step.shared)()).await?;
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

/// Explains a missing right (`insufficient_privilege`).
fn of_login(error: Error, options: &ConnectOptions) -> Error {
    match &error {
        Error::Database(cause) if cause.code() == Some("42501") => {
            let (login, cause) = (options.user().to_owned(), cause.to_string());
            Error::Login { login, cause }
        }
        _ => error,
    }
}
