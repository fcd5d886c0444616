//! The schema of one organization: its tables are made from the shared ones as they are, with their policies, grants, indexes and
//! triggers, and migrated with them from then on.
#![expect(clippy::disallowed_types, reason = "this is where schemas of tenants are made")]

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, types::Uuid};

use crate::m0014_move;

/// A table whose rows belong to organizations.
#[derive(Debug)]
pub struct Table {
    /// The shared one.
    pub name: &'static str,
    /// The columns of its primary key; the first is the organization.
    pub key: &'static str,
    /// The shared one keeps a copy of what is elsewhere, by which things are found.
    pub mirrored: bool,
}

impl Table {
    /// Without its schema.
    #[must_use]
    pub fn base_name(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, name)| name)
    }

    /// The one in a schema of an organization's own.
    #[must_use]
    pub fn in_schema(&self, schema: &str) -> String {
        format!("{schema}.{}", self.base_name())
    }

    /// The column that says whose a row is.
    #[must_use]
    pub fn owner_column(&self) -> &'static str {
        self.key.split_once(',').map_or(self.key, |(column, _)| column)
    }
}

const fn table(name: &'static str, key: &'static str, mirrored: bool) -> Table {
    Table { name, key, mirrored }
}

/// Everything that an organization has, what others refer to first.
pub const TABLES: [Table; 8] = [
    table("app.organizations", "id", true),
    table("auth.organization_members", "organization_id, id", true),
    table("auth.invitations", "organization_id, id", true),
    table("billing.organization_billing", "organization_id", true),
    table("app.projects", "organization_id, id", false),
    table("billing.usage", "organization_id, feature, period_start", false),
    table("app.outbox", "organization_id, id", true),
    table("audit.audit_logs", "organization_id, created_at, id", false),
];

/// A step that also changes the tables of organizations: its name, and what it does to a schema.
pub(crate) type SchemaStep = (&'static str, fn(&str) -> String);

/// The steps since schemas exist that change the tables of organizations, oldest first.
pub(crate) const SCHEMA_STEPS: [SchemaStep; 1] = [("m0014_move", m0014_move::of_schema)];

/// The newest of them: a server needs it in every schema that it works with.
pub const SCHEMA_VERSION: &str = SCHEMA_STEPS[SCHEMA_STEPS.len() - 1].0;

/// The name of an organization's schema, which needs no quotes.
#[must_use]
pub fn schema_of(organization: Uuid) -> String {
    format!("org_{}", organization.simple())
}

/// Makes an organization's schema, empty, and notes which steps it has. The connection acts as the owner, with `pg_catalog` as its
/// search path, in a transaction.
///
/// # Errors
///
/// When the schema exists, or PostgreSQL refuses.
pub async fn create(connection: &mut PgConnection, organization: Uuid) -> Result<(), sqlx::Error> {
    let schema = schema_of(organization);
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    let mirrored: Vec<Option<&str>> =
        TABLES.iter().map(|table| table.mirrored.then_some(table.key)).collect();
    let owners: Vec<&str> = TABLES.iter().map(Table::owner_column).collect();
    let statements: Vec<String> = sqlx::query_scalar(include_str!("placement.sql"))
        .bind(&schema)
        .bind(organization)
        .bind(&names)
        .bind(&owners)
        .bind(&mirrored)
        .fetch_all(&mut *connection)
        .await?;
    connection.execute(AssertSqlSafe(statements.join(";\n"))).await?;
    Ok(())
}

/// Removes an organization's schema with everything in it, if there is one.
///
/// # Errors
///
/// When somebody still reads there, or PostgreSQL refuses.
pub async fn remove(connection: &mut PgConnection, organization: Uuid) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    transaction
        .execute("SET LOCAL lock_timeout = '1s'; SET LOCAL client_min_messages = warning")
        .await?;
    let schema = schema_of(organization);
    transaction.execute(AssertSqlSafe(format!("DROP SCHEMA IF EXISTS {schema} CASCADE"))).await?;
    transaction.commit().await
}
