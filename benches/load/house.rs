//! Gives an organization a schema of its own, at once: for benchmarks and tests, which do not mind
//! that writers wait meanwhile.
#![expect(clippy::disallowed_types, reason = "this moves organizations, from outside of them")]

use migration::placement::{SCHEMA_VERSION, TABLES, create, schema_of};
use sqlx::{AssertSqlSafe, Executor, PgConnection, types::Uuid};

/// The connection is the superuser's.
pub async fn house(connection: &mut PgConnection, organization: Uuid) -> Result<(), sqlx::Error> {
    let schema = schema_of(organization);
    connection
        .execute("BEGIN; SET LOCAL ROLE tenantry_owner; SET LOCAL search_path = pg_catalog; SET LOCAL app.copying = 'on'")
        .await?;
    create(connection, organization).await?;
    connection.execute("RESET ROLE").await?;
    alone(connection, organization).await?;
    for table in &TABLES {
        let (own, owner) = (table.in_schema(&schema), table.owner_column());
        let rows = format!("FROM {} WHERE {owner} = '{organization}'", table.name);
        connection.execute(AssertSqlSafe(format!("INSERT INTO {own} SELECT * {rows}"))).await?;
        if !table.mirrored {
            connection.execute(AssertSqlSafe(format!("DELETE {rows}"))).await?;
        }
    }
    sqlx::query(
        "INSERT INTO app.placements (organization_id, home, version, moved_at) VALUES ($1, 'schema', $2, now())
         ON CONFLICT (organization_id) DO UPDATE SET home = 'schema', version = excluded.version",
    )
    .bind(organization)
    .bind(SCHEMA_VERSION)
    .execute(&mut *connection)
    .await?;
    connection.execute("COMMIT").await?;
    Ok(())
}

/// Whoever writes in the organization waits until the end of the transaction.
pub async fn alone(connection: &mut PgConnection, organization: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(app.placement_lock($1))")
        .bind(organization)
        .execute(connection)
        .await?;
    Ok(())
}
