//! Dedicated schemas: the tables of one organization, created like the shared tables, with their
//! policies, grants, indexes and triggers, and migrated with them from then on.

use pg::Client;
use uuid::Uuid;

use crate::{
    names::LOCK,
    step::{for_schemas, version},
    steps::STEPS,
    tenant_table::TenantTable,
};
pub use crate::{step::includes, steps::SCHEMA_VERSION};

/// The name of an organization's schema, which needs no quotes.
#[must_use]
pub fn schema_of(organization: Uuid) -> String {
    format!("org_{}", organization.simple())
}

/// Creates an organization's schema, empty, like the shared tables as they are, and returns its
/// version: see [`SCHEMA_VERSION`]. Waits for a running migration. The connection acts as the
/// owner, with `pg_catalog` as its search path, in a transaction.
///
/// # Errors
///
/// When the schema exists, or PostgreSQL refuses.
pub async fn create(connection: &Client, organization: Uuid) -> pg::Result<String> {
    connection.execute("SELECT pg_advisory_xact_lock_shared($1)", &[&LOCK]).await?;
    let schema = schema_of(organization);
    let statements: Vec<String> =
        connection.query(include_str!("placement.sql"), &[&schema]).await?;
    let tables = TenantTable::list(connection).await?;
    let more: String = tables.iter().map(|table| table.dedicated(&schema)).collect();
    connection.batch(&(statements.join(";\n") + ";\n" + &more)).await?;
    let applied: Vec<String> =
        connection.query("SELECT version FROM migration.seaql_migrations", &[]).await?;
    let steps = STEPS.iter().filter(|step| applied.iter().any(|name| name == step.name));
    Ok(version(&for_schemas(steps)))
}

/// Prevents migrations for as long as the connection lives. A command that moves an organization
/// holds this lock, so that its tables are the same in both places. Waits for a running migration.
///
/// # Errors
///
/// When the connection is lost.
pub async fn keep_steps(connection: &Client) -> pg::Result<()> {
    connection.execute("SELECT pg_advisory_lock_shared($1)", &[&LOCK]).await?;
    Ok(())
}

/// Drops an organization's schema with all its contents, if it exists.
///
/// # Errors
///
/// When a transaction still reads there, or PostgreSQL refuses.
pub async fn remove(connection: &Client, organization: Uuid) -> pg::Result<()> {
    // One message is one transaction, unless the connection has begun one.
    let sql = format!(
        "SET LOCAL lock_timeout = '1s'; SET LOCAL client_min_messages = warning;
         DROP SCHEMA IF EXISTS {} CASCADE",
        schema_of(organization)
    );
    connection.batch(&sql).await
}
