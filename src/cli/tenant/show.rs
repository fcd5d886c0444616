//! `tenantry tenant show`: the placement of one organization, its rows counted there, and its
//! exceptions to the plan.

use migration::{TenantTable, placement};
use pg::Client;

use super::{Failure, allow, organization::Organization, placement::Placement};
use crate::cli::{owner_connection::Owner, say};

/// Print the placement of an organization, the number of its rows, and its exceptions to the plan.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The organization's slug or id.
    organization: String,
}

impl Show {
    pub(super) async fn run(self, owner: &Owner, connection: &Client) -> Result<(), Failure> {
        let organization = Organization::find(connection, &self.organization).await?;
        say(format!("{} ({})", organization.name, organization.id));
        match &organization.placement {
            Placement::Schema => say(format!(
                "lives in the schema {}, with the migrations up to {}",
                placement::schema_of(organization.id),
                organization.version.as_deref().unwrap_or("none")
            )),
            placement => say(format!("lives in {placement}")),
        }
        for remark in organization.remarks() {
            say(remark);
        }
        let mut there = organization.open_dedicated(owner).await?;
        let connection = there.as_mut().map_or(connection, |(connection, _)| connection);
        for table in &TenantTable::list(connection).await? {
            let sql = format!(
                "SELECT count(*) FROM {} WHERE {} = $1",
                organization.placement.table(table, organization.id),
                table.owner_column()
            );
            let count: i64 = connection.query_one(&sql, &[&organization.id]).await?;
            say(format!("{:<30} {count:>10} rows", table.name));
        }
        for exception in allow::list(connection, &organization).await? {
            say(exception);
        }
        Ok(())
    }
}
