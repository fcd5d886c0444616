//! Moves an organization to a dedicated schema in one transaction. Benchmarks and tests use it
//! where writers may wait.

use migration::{
    TenantTable,
    placement::{SCHEMA_VERSION, create, schema_of},
};
use pg::Client;
use uuid::Uuid;

/// Moves an organization to a dedicated schema. The connection belongs to the superuser.
pub async fn move_to_schema(connection: &Client, organization: Uuid) -> pg::Result<()> {
    let schema = schema_of(organization);
    connection
        .batch("BEGIN; SET LOCAL ROLE tenantry_owner; SET LOCAL search_path = pg_catalog; SET LOCAL app.replicating = 'on'")
        .await?;
    create(connection, organization).await?;
    connection.batch("RESET ROLE").await?;
    lock_placement(connection, organization).await?;
    for table in &TenantTable::list(connection).await? {
        let (own, owner) = (table.in_schema(&schema), table.owner_column());
        let rows = format!("FROM {} WHERE {owner} = '{organization}'", table.name);
        connection.batch(&format!("INSERT INTO {own} SELECT * {rows}")).await?;
        if !table.mirrored {
            connection.batch(&format!("DELETE {rows}")).await?;
        }
    }
    connection
        .execute(
            "INSERT INTO app.placements (organization_id, placement, version, moved_at) VALUES ($1, 'schema', $2, now())
         ON CONFLICT (organization_id) DO UPDATE SET placement = 'schema', version = excluded.version, moving_to = NULL",
            &[&organization, &SCHEMA_VERSION.as_str()],
        )
        .await?;
    connection.batch("COMMIT").await?;
    Ok(())
}

/// Takes the placement lock: writers of the organization wait until the end of the transaction.
pub async fn lock_placement(connection: &Client, organization: Uuid) -> pg::Result<()> {
    connection
        .execute("SELECT pg_advisory_xact_lock(app.placement_lock($1))", &[&organization])
        .await?;
    Ok(())
}
