//! Runs a migration: the roles, the steps that the database lacks, the functions, and then the
//! dedicated schemas.

use pg::ConnectOptions;
use pg_migrate::Migration;

use crate::{
    error::Error,
    functions,
    names::{APP_ROLE, DATABASE, SYSTEM_ROLE},
    schemas::{self, Schemas},
    step::Step,
    steps::{STEPS, Status, compare},
};

/// Whether the first step of the database is the one of this program. Development versions of it
/// had the same name and did not create this table.
const IS_BASELINE: &str = "SELECT EXISTS (SELECT FROM pg_tables
    WHERE schemaname = 'app' AND tablename = 'organization_lookup')";

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
    let waiting = || {
        (run.progress)(
            "waiting for another migration, or for organizations that are being moved …",
        );
    };
    let mut migration = Migration::begin(&options, &DATABASE, waiting).await?;
    let outcome = apply(&mut migration, &options, passwords, run).await;
    migration.end().await;
    outcome
}

async fn apply(
    migration: &mut Migration<'_>,
    options: &ConnectOptions,
    passwords: Passwords<'_>,
    run: &Run,
) -> Result<Report, Error> {
    let known = migration.applied().await?;
    if let status @ (Status::Ahead(_) | Status::Incompatible) = compare(&known, &run.steps) {
        return Err(Error::Version(status));
    }
    if !known.is_empty() && !migration.client().query_one::<bool>(IS_BASELINE, &[]).await? {
        return Err(Error::Version(Status::Incompatible));
    }
    let passwords = [(APP_ROLE, passwords.app), (SYSTEM_ROLE, passwords.system)];
    let passwords = passwords.into_iter().filter_map(|(role, password)| Some((role, password?)));
    migration.prepare(&passwords.collect::<Vec<_>>()).await?;
    let mut applied = Vec::new();
    for step in run.steps.iter().filter(|step| known.iter().all(|name| name != step.name)) {
        let outcome = migration.apply(step.name, &step.shared()).await;
        outcome.map_err(|cause| Error::Step { name: step.name, cause })?;
        applied.push(step.name.to_owned());
    }
    if run.steps.len() < STEPS.len() {
        return Ok(Report { applied, functions: Vec::new(), schemas: Schemas::default() });
    }
    let (names, texts) = functions::all(migration.client()).await?;
    let functions = migration.apply_functions(&names, &texts).await?;
    migration.client().execute("SELECT audit.ensure_partitions()", &[]).await?;
    let schemas = schemas::migrate(options, &run.steps, run.concurrency, run.progress).await?;
    Ok(Report { applied, functions, schemas })
}
