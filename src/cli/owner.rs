//! The way to the database of commands that maintain it: as the owner, who is bound by policies as well.
#![expect(
    clippy::disallowed_types,
    reason = "maintenance is of the whole database, not of a tenant"
)]

use sqlx::{Connection, Executor, PgConnection};

use super::Failure;
use crate::config::parse_database_url;

/// The database as its owner.
#[derive(Debug, clap::Args)]
pub(super) struct Owner {
    /// PostgreSQL as a role that may act as tenantry_owner.
    #[arg(
        long,
        env = "MIGRATION_DATABASE_URL",
        value_name = "MIGRATION_DATABASE_URL",
        hide_env_values = true,
        global = true
    )]
    migration_database_url: Option<String>,
}

impl Owner {
    /// A connection that acts as the owner of every table.
    pub(super) async fn connect(&self) -> Result<PgConnection, Failure> {
        let url = self.migration_database_url.as_deref().ok_or_else(|| {
            Failure::new(
                "MIGRATION_DATABASE_URL is not set: it must be PostgreSQL as a role that may act as tenantry_owner",
            )
        })?;
        let options = parse_database_url("MIGRATION_DATABASE_URL", url).map_err(Failure::new)?;
        let mut connection = PgConnection::connect_with(&options).await.map_err(Failure::new)?;
        connection
            .execute("SET ROLE tenantry_owner; SET search_path = pg_catalog, pg_temp; SET TimeZone = 'UTC'")
            .await
            .map_err(Failure::new)?;
        Ok(connection)
    }
}
