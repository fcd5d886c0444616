//! The schema of one organization: its tables are made from the shared ones as they are, with their
//! policies, grants, indexes and triggers, and migrated with them from then on.
#![expect(clippy::disallowed_types, reason = "this is where schemas of tenants are made")]

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, types::Uuid};

use crate::{m0014_move, m0015_tenant, m0022_roles, run::LOCK};

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
        in_schema(schema, self.name)
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
pub(crate) const SCHEMA_STEPS: [SchemaStep; 3] = [
    ("m0014_move", m0014_move::of_schema),
    ("m0015_tenant", m0015_tenant::of_schema),
    ("m0022_roles", m0022_roles::of_schema),
];

/// The newest of them: a server needs it in every schema that it works with.
pub const SCHEMA_VERSION: &str = SCHEMA_STEPS[SCHEMA_STEPS.len() - 1].0;

/// The name of an organization's schema, which needs no quotes.
#[must_use]
pub fn schema_of(organization: Uuid) -> String {
    format!("org_{}", organization.simple())
}

/// The table in a schema of an organization's own that is like a shared one.
#[must_use]
pub fn in_schema(schema: &str, shared: &str) -> String {
    format!("{schema}.{}", shared.split_once('.').map_or(shared, |(_, name)| name))
}

/// Holds a table of a schema to the one organization whose schema it is; `column` says whose a row
/// is.
#[must_use]
pub fn one_organization(schema: &str, shared: &str, column: &str) -> String {
    let (table, organization) = (in_schema(schema, shared), schema.trim_start_matches("org_"));
    format!(
        "ALTER TABLE {table} ADD CONSTRAINT of_one_organization CHECK ({column} = '{organization}');\n"
    )
}

/// Keeps a copy of a schema's table in the shared one, whose primary key is `key`.
#[must_use]
pub fn mirror(schema: &str, shared: &str, key: &str) -> String {
    format!(
        "CREATE TRIGGER mirror_row AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW
             WHEN (current_setting('app.copying', true) IS DISTINCT FROM 'on')
             EXECUTE FUNCTION app.mirror_row('{shared}', '{key}');\n",
        in_schema(schema, shared)
    )
}

/// Makes an organization's schema, empty, from the shared tables as they are, and tells the newest
/// step that it thereby has; none when no step has changed the tables of organizations yet. Waits
/// for a migration that runs. The connection acts as the owner, with `pg_catalog` as its search
/// path, in a transaction.
///
/// # Errors
///
/// When the schema exists, or PostgreSQL refuses.
pub async fn create(
    connection: &mut PgConnection,
    organization: Uuid,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock_shared($1)")
        .bind(LOCK)
        .execute(&mut *connection)
        .await?;
    let schema = schema_of(organization);
    // An older database lacks the tables of later steps.
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM unnest($1::text[]) WITH ORDINALITY t (name, position)
         WHERE to_regclass(name) IS NOT NULL ORDER BY position",
    )
    .bind(TABLES.map(|table| table.name).as_slice())
    .fetch_all(&mut *connection)
    .await?;
    let statements: Vec<String> = sqlx::query_scalar(include_str!("placement.sql"))
        .bind(&schema)
        .bind(&names)
        .fetch_all(&mut *connection)
        .await?;
    let tables = TABLES.iter().filter(|table| names.iter().any(|name| name == table.name));
    let more = tables.map(|table| {
        let mirror =
            if table.mirrored { mirror(&schema, table.name, table.key) } else { String::new() };
        one_organization(&schema, table.name, table.owner_column()) + &mirror
    });
    let sql = statements.join(";\n") + ";\n" + &more.collect::<String>();
    connection.execute(AssertSqlSafe(sql)).await?;
    sqlx::query_scalar(
        "SELECT max(version) FROM migration.seaql_migrations WHERE version = ANY ($1)",
    )
    .bind(SCHEMA_STEPS.map(|(name, _)| name).as_slice())
    .fetch_one(connection)
    .await
}

/// Keeps migrations from beginning for as long as the connection lives: whoever moves an
/// organization holds this all the time, so that its tables are the same here and there. Waits for
/// a migration that runs.
///
/// # Errors
///
/// When the connection is lost.
pub async fn keep_steps(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_lock_shared($1)").bind(LOCK).execute(connection).await?;
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
