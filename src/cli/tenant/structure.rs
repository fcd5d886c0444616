//! The structure of a dedicated schema, compared with that of the shared tables.

use migration::placement::{TABLES, Table, schema_of};
use pg::Client;
use uuid::Uuid;

/// Lists what a dedicated schema lacks compared with the shared tables, or has in addition.
pub(super) async fn structure_faults(
    connection: &Client,
    organization: Uuid,
) -> pg::Result<Vec<String>> {
    connection
        .query(
            include_str!("structure.sql"),
            &[
                &schema_of(organization),
                &organization,
                &TABLES.iter().map(|table| table.name).collect::<Vec<_>>(),
                &TABLES.iter().map(Table::owner_column).collect::<Vec<_>>(),
                &TABLES.iter().map(|table| table.mirrored.then_some(table.key)).collect::<Vec<_>>(),
            ],
        )
        .await
}
