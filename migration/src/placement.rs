//! Dedicated schemas: the tables of one organization, created like the shared tables, with their
//! policies, grants, indexes and triggers, and migrated with them from then on.

use pg::Client;
use uuid::Uuid;

use crate::{STEPS, run::LOCK, step::schema_versions};

/// A table whose rows belong to organizations.
#[derive(Debug)]
pub struct Table {
    /// The name of the shared table, with its schema.
    pub name: &'static str,
    /// The columns of its primary key; the first one is the organization.
    pub key: &'static str,
    /// The shared table has copies of rows that are placed in a dedicated schema or database, so
    /// that they are found before the organization is known.
    pub mirrored: bool,
}

impl Table {
    /// The name without its schema.
    #[must_use]
    pub fn base_name(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, name)| name)
    }

    /// The table in a dedicated schema.
    #[must_use]
    pub fn in_schema(&self, schema: &str) -> String {
        in_schema(schema, self.name)
    }

    /// The column of the organization.
    #[must_use]
    pub fn owner_column(&self) -> &'static str {
        self.key.split_once(',').map_or(self.key, |(column, _)| column)
    }
}

const fn table(name: &'static str, key: &'static str, mirrored: bool) -> Table {
    Table { name, key, mirrored }
}

/// All tables whose rows belong to organizations, referenced tables first.
pub const TABLES: [Table; 10] = [
    table("app.organizations", "id", true),
    table("auth.organization_members", "organization_id, id", true),
    table("auth.invitations", "organization_id, id", true),
    table("billing.organization_billing", "organization_id", true),
    table("app.projects", "organization_id, id", false),
    table("billing.organization_features", "organization_id, feature", false),
    table("billing.usage", "organization_id, feature, period_start", false),
    table("billing.usage_keys", "organization_id, feature, key", false),
    table("app.outbox", "organization_id, id", true),
    table("audit.audit_logs", "organization_id, created_at, id", false),
];

/// The newest step that changes dedicated schemas, or the baseline: a server requires it in every
/// schema that it uses.
pub const SCHEMA_VERSION: &str = {
    let mut last = STEPS.len() - 1;
    while last > 0 && STEPS[last].schema.is_none() {
        last -= 1;
    }
    STEPS[last].name
};

/// The name of an organization's schema, which needs no quotes.
#[must_use]
pub fn schema_of(organization: Uuid) -> String {
    format!("org_{}", organization.simple())
}

/// The table in a dedicated schema that corresponds to a shared table.
#[must_use]
pub fn in_schema(schema: &str, shared: &str) -> String {
    format!("{schema}.{}", shared.split_once('.').map_or(shared, |(_, name)| name))
}

/// Restricts a table of a dedicated schema to the organization of the schema; `column` is the
/// organization's.
#[must_use]
pub fn one_organization(schema: &str, shared: &str, column: &str) -> String {
    let (table, organization) = (in_schema(schema, shared), schema.trim_start_matches("org_"));
    format!(
        "ALTER TABLE {table} ADD CONSTRAINT single_organization CHECK ({column} = '{organization}');\n"
    )
}

/// Copies changes of a table in a dedicated schema to the shared table, whose primary key is `key`.
#[must_use]
pub fn mirror(schema: &str, shared: &str, key: &str) -> String {
    format!(
        "CREATE TRIGGER mirror_row AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW
             WHEN (current_setting('app.replicating', true) IS DISTINCT FROM 'on')
             EXECUTE FUNCTION app.mirror_row('{shared}', '{key}');\n",
        in_schema(schema, shared)
    )
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
    // A database of an older version lacks the tables of later steps.
    let names: Vec<String> = connection
        .query(
            "SELECT name FROM unnest($1::text[]) WITH ORDINALITY t (name, position)
         WHERE to_regclass(name) IS NOT NULL ORDER BY position",
            &[&TABLES.map(|table| table.name).as_slice()],
        )
        .await?;
    let statements: Vec<String> =
        connection.query(include_str!("placement.sql"), &[&schema, &names]).await?;
    let tables = TABLES.iter().filter(|table| names.iter().any(|name| name == table.name));
    let more = tables.map(|table| {
        let mirror =
            if table.mirrored { mirror(&schema, table.name, table.key) } else { String::new() };
        one_organization(&schema, table.name, table.owner_column()) + &mirror
    });
    let sql = statements.join(";\n") + ";\n" + &more.collect::<String>();
    connection.batch(&sql).await?;
    connection
        .query_one(
            "SELECT max(version) FROM migration.seaql_migrations WHERE version = ANY ($1)",
            &[&schema_versions(STEPS).iter().map(|step| step.name).collect::<Vec<_>>()],
        )
        .await
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
