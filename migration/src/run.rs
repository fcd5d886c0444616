//! Applies the steps: one migration at a time for a database, as the owner, whoever else starts one
//! meanwhile.

use std::time::Duration;

use sea_orm_migration::{
    MigratorTrait,
    sea_orm::{DbErr, SqlxPostgresConnector},
};
use sqlx::{
    Executor, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{Migrator, Schemas, functions, roles, schemas};

/// Migrations of the same database wait for each other on this advisory lock ("tenantry" in ASCII).
pub(crate) const LOCK: i64 = 0x7465_6e61_6e74_7279;

/// Why a database could not be migrated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused something, or could not be reached.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A step failed and was rolled back, or the database was migrated by a newer tenantry.
    #[error("{0}")]
    Step(#[from] DbErr),
    /// One of the two roles exists with rights that would pass by row-level security.
    #[error(
        "the role {0} has rights that pass by row-level security: run ALTER ROLE {0} NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION"
    )]
    PowerfulRole(String),
}

/// The passwords that the login roles get; without one a role keeps what it has.
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

/// Schemas of organizations that are migrated at the same time, unless somebody says otherwise.
pub const CONCURRENCY: usize = 4;

/// How to migrate.
#[derive(Clone, Debug)]
pub struct Run {
    /// At most this many of the missing steps, and then no schemas: how older databases are made
    /// for tests.
    pub steps: Option<u32>,
    /// Schemas of organizations at the same time, each over a connection of its own.
    pub concurrency: usize,
    /// Is told now and then how far a long run is, and what it waits for.
    pub progress: fn(&str),
}

impl Default for Run {
    fn default() -> Self {
        Self { steps: None, concurrency: CONCURRENCY, progress: |_| () }
    }
}

/// What a run did.
#[derive(Debug)]
pub struct Report {
    /// The names of the steps that this run applied, oldest first.
    pub applied: Vec<String>,
    /// The names of the functions whose text had changed.
    pub functions: Vec<String>,
    /// What became of the schemas that lacked steps.
    pub schemas: Schemas,
}

/// Brings the database up to date; `app_password` becomes the password of the app role.
///
/// # Errors
///
/// When the database cannot be reached, the login lacks rights, or a step fails; a failed step
/// leaves nothing behind. That a schema of an organization could not be migrated is no error here:
/// the report tells.
pub async fn migrate(
    options: PgConnectOptions,
    app_password: Option<&str>,
) -> Result<Report, Error> {
    let passwords = Passwords { app: app_password, ..Passwords::default() };
    migrate_with(options, passwords, &Run::default()).await
}

/// As [`migrate`], but applies at most `steps` of the missing steps: how older databases are made
/// for tests.
///
/// # Errors
///
/// As [`migrate`].
pub async fn migrate_steps(
    options: PgConnectOptions,
    app_password: Option<&str>,
    steps: Option<u32>,
) -> Result<Report, Error> {
    let passwords = Passwords { app: app_password, ..Passwords::default() };
    migrate_with(options, passwords, &Run { steps, ..Run::default() }).await
}

/// As [`migrate`], in a way of one's own.
///
/// # Errors
///
/// As [`migrate`].
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
        roles::ensure(&mut connection, passwords).await?;
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
    let database = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone());
    let pending = Migrator::get_pending_migrations(&database).await?;
    let count = run.steps.map_or(pending.len(), |steps| pending.len().min(steps as usize));
    Migrator::up(&database, run.steps).await?;
    pool.execute("GRANT SELECT ON migration.seaql_migrations TO tenantry_app, tenantry_system")
        .await?;
    let applied = pending[..count].iter().map(|step| step.name().to_owned()).collect();
    if count < pending.len() {
        return Ok(Report { applied, functions: Vec::new(), schemas: Schemas::default() });
    }
    let functions = functions::apply(&mut *pool.acquire().await?).await?;
    if run.steps.is_some() {
        return Ok(Report { applied, functions, schemas: Schemas::default() });
    }
    let schemas = schemas::migrate(options, run).await?;
    Ok(Report { applied, functions, schemas })
}

async fn lock(connection: &mut PgConnection, progress: fn(&str)) -> Result<(), Error> {
    // The backend of a run that has just ended may take a moment to go.
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

/// How the steps of a database compare with those of this program.
#[derive(Debug, PartialEq, Eq)]
pub enum Status {
    /// Both are the same.
    Current,
    /// The database lacks this many steps.
    Behind(usize),
    /// The database has steps that this program does not know: it was migrated by a newer tenantry.
    Ahead(usize),
}

/// Compares the names of the steps that a database has with those of this program.
#[must_use]
pub fn status(applied: &[String]) -> Status {
    let known: Vec<String> =
        Migrator::migrations().iter().map(|step| step.name().to_owned()).collect();
    let ahead = applied.iter().filter(|name| !known.contains(name)).count();
    let behind = known.iter().filter(|name| !applied.contains(name)).count();
    match (ahead, behind) {
        (0, 0) => Status::Current,
        (0, behind) => Status::Behind(behind),
        (ahead, _) => Status::Ahead(ahead),
    }
}
