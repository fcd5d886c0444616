//! The run of a migration: one at a time for a database, as the owner.

use std::time::Duration;

use pg::{Client, ConnectOptions};

use crate::{error::Error, functions, roles::Roles, server};

/// The settings of a session in which statements of the owner mean the same in any database and
/// wait as long as they need.
pub const SESSION: &str = "SET standard_conforming_strings = on; SET quote_all_identifiers = off;
    SET row_security = on; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, MDY';
    SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'; SET client_min_messages = warning;
    SET default_transaction_read_only = off; SET default_transaction_deferrable = off;
    SET default_transaction_isolation = 'read committed';
    SET statement_timeout = 0; SET lock_timeout = 0;
    SET idle_session_timeout = 0; SET idle_in_transaction_session_timeout = 0;
    -- Exists from PostgreSQL 17 on.
    SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings
    WHERE name = 'transaction_timeout'";

/// What all migrations of a database have in common.
#[derive(Clone, Copy, Debug)]
pub struct Database {
    /// Migrations of the same database wait for each other on this advisory lock.
    pub lock: i64,
    /// The schemas that the steps create, besides `migration`.
    pub schemas: &'static [&'static str],
    /// The roles.
    pub roles: Roles,
}

/// A running migration. It holds the lock until its connection is closed.
#[derive(Debug)]
pub struct Migration<'a> {
    // One connection, so that the lock, the role and the search path hold for every step.
    client: Client,
    options: &'a ConnectOptions,
    database: &'a Database,
}

/// Creates the tables of applied steps and functions.
const TABLES: &str = "CREATE SCHEMA migration;
    CREATE TABLE migration.seaql_migrations (
        version    varchar NOT NULL PRIMARY KEY,
        applied_at bigint NOT NULL
    );
    CREATE TABLE migration.functions (
        name       text PRIMARY KEY,
        digest     bytea NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    );";

const IS_MIGRATED: &str = "SELECT to_regclass('migration.seaql_migrations') IS NOT NULL";

impl<'a> Migration<'a> {
    /// Waits until no other migration runs. Calls `waiting` if that takes a moment.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached or used, or has schemas of another program.
    pub async fn begin(
        options: &'a ConnectOptions,
        database: &'a Database,
        waiting: impl FnOnce(),
    ) -> Result<Self, Error> {
        let client = Client::connect_exclusively(options).await?;
        server::check(&client).await?;
        client.batch(SESSION).await?;
        lock(&client, database.lock, waiting).await?;
        check_schemas(&client, database.schemas).await?;
        Ok(Self { client, options, database })
    }

    /// The names of the steps that the database has.
    ///
    /// # Errors
    ///
    /// When the login lacks the right to act as the owner, or the connection is lost.
    pub async fn applied(&mut self) -> Result<Vec<String>, Error> {
        match applied(&self.client).await {
            // A login that has not been able to act as the owner yet.
            Err(error) if error.has_code(&["42501"]) => {
                let roles = &self.database.roles;
                roles.ensure(&mut self.client, self.options, None).await?;
                self.client.batch(&format!("SET ROLE {}", roles.owner)).await?;
                let applied = applied(&self.client).await?;
                self.client.batch("RESET ROLE").await?;
                Ok(applied)
            }
            applied => Ok(applied?),
        }
    }

    /// Creates and configures the roles, with these passwords of logins. A login without one keeps
    /// its password. Acts as the owner from now on.
    ///
    /// # Errors
    ///
    /// When the login lacks a right, or a role has rights over the server.
    pub async fn prepare(&mut self, passwords: &[(&str, &str)]) -> Result<(), Error> {
        let roles = &self.database.roles;
        roles.ensure(&mut self.client, self.options, Some(passwords)).await?;
        let act = format!("SET ROLE {}; SET search_path = migration", roles.owner);
        Ok(self.client.batch(&act).await?)
    }

    /// Applies and records a step, in one transaction.
    ///
    /// # Errors
    ///
    /// When a statement fails. Then the step has changed nothing.
    pub async fn apply(&mut self, name: &str, sql: &str) -> pg::Result<()> {
        let transaction = self.client.begin().await?;
        if !transaction.query_one::<bool>(IS_MIGRATED, &[]).await? {
            let logins = self.database.roles.logins.join(", ");
            let grant = format!(
                "GRANT USAGE ON SCHEMA migration TO {logins};
                 GRANT SELECT ON ALL TABLES IN SCHEMA migration TO {logins}"
            );
            transaction.batch(TABLES).await?;
            transaction.batch(&grant).await?;
        }
        transaction.batch(sql).await?;
        let record = "INSERT INTO migration.seaql_migrations (version, applied_at)
            VALUES ($1, extract(epoch FROM now())::bigint)";
        transaction.execute(record, &[&name]).await?;
        transaction.commit().await
    }

    /// Applies every function whose text differs from the one in the database, all in one
    /// transaction, and returns their names. The text also drops what must not remain, and grants.
    ///
    /// # Errors
    ///
    /// When a statement fails. Then nothing has changed.
    pub async fn apply_functions(
        &mut self,
        names: &[String],
        texts: &[String],
    ) -> pg::Result<Vec<String>> {
        functions::apply(&mut self.client, names, texts).await
    }

    /// The connection.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Closes the connection, and returns when that is done.
    pub async fn end(self) {
        self.client.close().await;
    }
}

async fn lock(connection: &Client, lock: i64, waiting: impl FnOnce()) -> pg::Result<()> {
    // The backend of a run that has just ended may need a moment to exit.
    for pause in [Duration::from_millis(200), Duration::ZERO] {
        let free: bool = connection.query_one("SELECT pg_try_advisory_lock($1)", &[&lock]).await?;
        if free {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
    }
    waiting();
    connection.execute("SELECT pg_advisory_lock($1)", &[&lock]).await?;
    Ok(())
}

async fn applied(client: &Client) -> pg::Result<Vec<String>> {
    if !client.query_one::<bool>(IS_MIGRATED, &[]).await? {
        return Ok(Vec::new());
    }
    client.query("SELECT version FROM migration.seaql_migrations", &[]).await
}

/// Refuses a database that has not been migrated, but has schemas of these names.
async fn check_schemas(client: &Client, schemas: &[&str]) -> Result<(), Error> {
    let foreign = "SELECT nspname::text FROM pg_namespace
         WHERE nspname = ANY ($1 || ARRAY['migration'])
           AND NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                           WHERE n.nspname = 'migration' AND c.relname = 'seaql_migrations')
         ORDER BY nspname";
    match client.query_opt(foreign, &[&schemas]).await? {
        Some(schema) => Err(Error::ForeignSchema(schema)),
        None => Ok(()),
    }
}
