//! Applies the steps: one migration at a time for a database, as the owner, whoever else starts one meanwhile.

use sea_orm_migration::{
    MigratorTrait,
    sea_orm::{DbErr, SqlxPostgresConnector},
};
use sqlx::{
    Executor, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{Migrator, roles};

/// Migrations of the same database wait for each other on this advisory lock ("tenantry" in ASCII).
const LOCK: i64 = 0x7465_6e61_6e74_7279;

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

/// What a run did.
#[derive(Debug)]
pub struct Report {
    /// The names of the steps that this run applied, oldest first.
    pub applied: Vec<String>,
}

/// Brings the database up to date; `app_password` becomes the password of the app role.
///
/// # Errors
///
/// When the database cannot be reached, the login lacks rights, or a step fails; a failed step leaves nothing behind.
pub async fn migrate(
    options: PgConnectOptions,
    app_password: Option<&str>,
) -> Result<Report, Error> {
    migrate_steps(options, app_password, None).await
}

/// As [`migrate`], but applies at most `steps` of the missing steps: how older databases are made for tests.
///
/// # Errors
///
/// As [`migrate`].
pub async fn migrate_steps(
    options: PgConnectOptions,
    app_password: Option<&str>,
    steps: Option<u32>,
) -> Result<Report, Error> {
    // One connection, so that the lock, the role and the search path hold for every step.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .test_before_acquire(false)
        .connect_with(options)
        .await?;
    let outcome = locked(&pool, app_password, steps).await;
    pool.close().await;
    outcome
}

async fn locked(
    pool: &PgPool,
    app_password: Option<&str>,
    steps: Option<u32>,
) -> Result<Report, Error> {
    {
        let mut connection = pool.acquire().await?;
        sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut *connection).await?;
        roles::ensure(&mut connection, app_password).await?;
        connection
            .execute(
                "SET ROLE tenantry_owner;
                 SET client_min_messages = warning;
                 CREATE SCHEMA IF NOT EXISTS migration;
                 GRANT USAGE ON SCHEMA migration TO tenantry_app;
                 SET search_path = migration",
            )
            .await?;
    }
    let database = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone());
    let pending = Migrator::get_pending_migrations(&database).await?;
    let count = steps.map_or(pending.len(), |steps| pending.len().min(steps as usize));
    Migrator::up(&database, steps).await?;
    pool.execute("GRANT SELECT ON migration.seaql_migrations TO tenantry_app").await?;
    let applied = pending[..count].iter().map(|step| step.name().to_owned()).collect();
    Ok(Report { applied })
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
