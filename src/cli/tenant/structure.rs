//! The structure of a dedicated schema, compared with that of the shared tables.

use migration::placement::schema_of;
use pg::Client;
use uuid::Uuid;

/// Lists what a dedicated schema lacks compared with the shared tables, or has in addition.
pub(super) async fn structure_faults(
    connection: &Client,
    organization: Uuid,
) -> pg::Result<Vec<String>> {
    connection
        .query(include_str!("structure.sql"), &[&schema_of(organization), &organization])
        .await
}
