//! `tenantry tenant verify`: checks an organization's tables in one snapshot, so that concurrent
//! writes are not reported as faults.

use pg::Client;
use uuid::Uuid;

use super::{
    Failure,
    locks::begin_snapshot,
    organization::Organization,
    placement::Placement,
    structure::structure_faults,
    table_rows::{NONE, TableRows},
    verify_dedicated,
};
use crate::cli::{counted, owner_connection::Owner, say};

/// Check the tables of an organization and print a checksum of each. Prints one line per fault;
/// exit status 1 on any fault.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// The organization's slug or id.
    organization: String,
}

impl Verify {
    pub(super) async fn run(self, owner: &Owner, connection: &mut Client) -> Result<(), Failure> {
        let organization = Organization::find(connection, &self.organization).await?;
        let faults = match organization.open_dedicated(owner).await? {
            Some((mut there, organization)) => {
                verify_dedicated::check(connection, &mut there, &organization).await?
            }
            None => check(connection, organization.id).await?,
        };
        for fault in &faults {
            say(format!("fault: {fault}"));
        }
        match faults.len() {
            0 => Ok(()),
            count => {
                Err(Failure::new(format!("{}: {}", organization.name, counted(count, "fault"))))
            }
        }
    }
}

async fn check(connection: &mut Client, id: Uuid) -> Result<Vec<String>, Failure> {
    let snapshot = begin_snapshot(connection).await?;
    // The placement in this snapshot.
    let organization = Organization::get(&snapshot, id).await?;
    organization.check_version()?;
    let mut faults = Vec::new();
    if organization.placement == Placement::Schema {
        faults = structure_faults(&snapshot, organization.id).await?;
    }
    // Rows can be compared only if the structure of the tables is right.
    if faults.is_empty() {
        for rows in TableRows::of_all(&snapshot).await? {
            faults.extend(check_rows(&snapshot, &organization, &rows).await?);
        }
    }
    Ok(faults)
}

async fn check_rows(
    connection: &Client,
    organization: &Organization,
    rows: &TableRows,
) -> pg::Result<Vec<String>> {
    let place = organization.placement.table(&rows.table, organization.id);
    let digest = rows.digest(connection, &place, organization.id, NONE).await?;
    digest.print(&place);
    let mut faults = Vec::new();
    if organization.placement == Placement::Shared {
        return Ok(faults);
    }
    let owner = rows.table.owner_column();
    let foreign = format!("SELECT count(*) FROM {place} WHERE {owner} <> $1");
    let mut checks = vec![(foreign, "rows of other organizations".to_owned())];
    if rows.table.mirrored {
        let name = &rows.table.name;
        let copies = format!(
            "SELECT count(*) FROM {place} t FULL JOIN (SELECT * FROM {name} WHERE {owner} = $1) s ON {}
             WHERE {} IS DISTINCT FROM {}",
            rows.same("s", "t"),
            rows.text("s"),
            rows.text("t")
        );
        checks.push((copies, format!("rows that are missing or different in {name}")));
    }
    for (sql, what) in checks {
        let count: i64 = connection.query_one(&sql, &[&organization.id]).await?;
        if count > 0 {
            faults.push(format!("{place} has {count} {what}"));
        }
    }
    Ok(faults)
}
