//! Runs a migration: one at a time for a database, as the owner.

use std::time::Duration;

use sea_orm_migration::{
    MigratorTraitSelf,
    sea_orm::{DbErr, SqlxPostgresConnector},
};
use sqlx::{
    Executor, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    INCOMPATIBLE, STEPS, Schemas, Status, Step, functions, roles, schemas, status, step::Migrator,
};

/// Migrations of the same database wait for each other on this advisory lock ("tenantry" in ASCII).
pub(crate) const LOCK: i64 = 0x7465_6e61_6e74_7279;

/// Why a database could not be migrated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused something, or could not be reached.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A step failed and was rolled back.
    #[error("{0}")]
    Step(#[from] DbErr),
    /// The steps of the database are not those of this program.
    #[error("{INCOMPATIBLE}")]
    Incompatible,
    /// A newer tenantry migrated the database.
    #[error("a newer version of tenantry migrated this database: use that version")]
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
pub async fn migrate(
    options: PgConnectOptions,
    app_password: Option<&str>,
) -> Result<Report, Error> {
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
    options: PgConnectOptions,
    passwords: Passwords<'_>,
    run: &Run,
) -> Result<Report, Error> {
    // One connection, so that the lock, the role and the search path hold for every step.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .test_before_acquire(false)
        .connect_with(options.clone())
        .await?;
    let outcome = locked(&pool, options, passwords, run).await;
    pool.close().await;
    outcome
}

async fn locked(
    pool: &PgPool,
    options: PgConnectOptions,
    passwords: Passwords<'_>,
    run: &Run,
) -> Result<Report, Error> {
    {
        let mut connection = pool.acquire().await?;
        lock(&mut connection, run.progress).await?;
        refuse_incompatible(&mut connection).await?;
        let prepared = roles::ensure(&mut connection, passwords).await;
        prepared.map_err(|error| of_login(error, &options))?;
        connection
            .execute(
                "SET ROLE tenantry_owner;
                 SET client_min_messages = warning;
                 CREATE SCHEMA IF NOT EXISTS migration;
                 GRANT USAGE ON SCHEMA migration TO tenantry_app, tenantry_system;
                 SET search_path = migration",
            )
            .await?;
    }
    let (migrator, database) =
        (Migrator(&run.steps), SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone()));
    let pending = migrator.get_pending_migrations(&database).await?;
    migrator.up(&database, None).await?;
    pool.execute("GRANT SELECT ON migration.seaql_migrations TO tenantry_app, tenantry_system")
        .await?;
    let applied = pending.iter().map(|step| step.name().to_owned()).collect();
    if run.steps.len() < STEPS.len() {
        return Ok(Report { applied, functions: Vec::new(), schemas: Schemas::default() });
    }
    let functions = functions::apply(&mut *pool.acquire().await?).await?;
    let schemas = schemas::migrate(options, run).await?;
    Ok(Report { applied, functions, schemas })
}

async fn lock(connection: &mut PgConnection, progress: fn(&str)) -> Result<(), Error> {
    // The backend of a run that has just ended may need a moment to exit.
    for pause in [Duration::from_millis(200), Duration::ZERO] {
        let free: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut *connection)
            .await?;
        if free {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
    }
    progress("waiting for another migration, or for organizations that are being moved …");
    sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(connection).await?;
    Ok(())
}

/// Refuses a database whose steps are not those of this program, before anything is changed.
async fn refuse_incompatible(connection: &mut PgConnection) -> Result<(), Error> {
    let query = "SELECT to_regclass('migration.seaql_migrations') IS NOT NULL";
    if !sqlx::query_scalar(query).fetch_one(&mut *connection).await? {
        return Ok(());
    }
    let applied: Vec<String> = sqlx::query_scalar("SELECT version FROM migration.seaql_migrations")
        .fetch_all(connection)
        .await?;
    match status(&applied) {
        Status::Incompatible => Err(Error::Incompatible),
        Status::Ahead(_) => Err(Error::Newer),
        Status::Current | Status::Behind(_) => Ok(()),
    }
}

/// Explains a missing right (`insufficient_privilege`).
fn of_login(error: Error, options: &PgConnectOptions) -> Error {
    match &error {
        Error::Database(sqlx::Error::Database(cause))
            if cause.code().as_deref() == Some("42501") =>
        {
            let (login, cause) = (options.get_username().to_owned(), cause.message().to_owned());
            Error::Login { login, cause }
        }
        _ => error,
    }
}
