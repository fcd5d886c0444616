//! `tenantry tenant export`: writes one snapshot of an organization as JSON Lines: a header, a line
//! per row, a trailer and a signature over all lines before it.
//!
//! The trailer holds a checksum of each table, so that a truncated file is recognized.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    pin::pin,
};

use futures_util::TryStreamExt;
use migration::placement;
use pg::Client;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{
    Failure,
    locks::begin_snapshot,
    organization::Organization,
    placement::Placement,
    signature::Signing,
    table_rows::{TableRows, columns, sum, user_columns},
};
use crate::{
    audit::Action, cli::owner_connection::Owner, config::ExportConfig, tenancy::SecretKeys,
};

/// The version of the file format.
pub(super) const FORMAT: u32 = 2;

/// Tables that an export covers besides the organization's tables.
pub(super) const OTHER_TABLES: [&str; 3] =
    ["auth.users", "auth.identities", "app.organization_slugs"];

/// Write a snapshot of an organization to a file for tenantry tenant import: the rows of all its
/// tables, its slugs, and the users and identities that the rows refer to. The export is recorded
/// in the audit log.
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// The organization's slug or id.
    organization: String,

    /// The file, which only its owner may read. - is the standard output.
    file: PathBuf,

    /// Write no signature. An import then needs --unsigned.
    #[arg(long)]
    unsigned: bool,

    #[command(flatten)]
    keys: ExportConfig,
}

/// The first line of an export.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) tenantry_export: u32,
    pub(super) organization_id: Uuid,
    pub(super) slug: String,
    /// The newest migration that changed tables of organizations.
    pub(super) version: String,
    pub(super) exported_at: String,
}

/// The total of a table, in the last line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Total {
    pub(super) table: String,
    pub(super) rows: i64,
    /// The sum of the hashes of the table's rows.
    pub(super) checksum: Option<String>,
}

impl Export {
    pub(super) async fn run(self, owner: &Owner, connection: &mut Client) -> Result<(), Failure> {
        let keys = (!self.unsigned).then(|| self.keys.keys()).transpose()?;
        let key = keys.as_ref().map(SecretKeys::newest);
        let organization = Organization::find(connection, &self.organization).await?;
        let mut there = organization.open_dedicated(owner).await?;
        let (connection, organization) = match &mut there {
            Some((connection, organization)) => (connection, &*organization),
            None => (connection, &organization),
        };
        organization.check_version()?;
        if organization.ended {
            return Err(Failure::new(format!(
                "{} is deleted. `tenantry audit export` prints its audit log.",
                self.organization
            )));
        }
        record(connection, organization).await?;
        let count = if self.file == Path::new("-") {
            write(connection, organization.id, BufWriter::new(io::stdout().lock()), key).await?
        } else {
            self.write_file(connection, organization.id, key).await?
        };
        eprintln!("exported {count} rows of {}", organization.name);
        Ok(())
    }

    /// Writes to a temporary name first, so that a file under its final name is always complete.
    async fn write_file(
        &self,
        connection: &mut Client,
        id: Uuid,
        key: Option<&[u8]>,
    ) -> Result<i64, Failure> {
        let failed = |error| Failure::new(format!("{}: {error}", self.file.display()));
        let mut part = self.file.clone().into_os_string();
        part.push(format!(".part-{}", std::process::id()));
        let part = PathBuf::from(part);
        let file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)
            .map_err(failed)?;
        let written = async {
            let count = write(connection, id, BufWriter::new(&file), key).await?;
            file.sync_all().and_then(|()| fs::rename(&part, &self.file)).map_err(failed)?;
            Ok(count)
        };
        let written = written.await;
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }
}

/// Records the export before the snapshot, so that the file contains the entry.
async fn record(connection: &mut Client, organization: &Organization) -> Result<(), Failure> {
    let transaction = connection.begin().await?;
    // As every writer does: the placement cannot change meanwhile, and a move copies the entry.
    let placement: String = transaction
        .query_one("SELECT placement FROM auth.enter_organization($1)", &[&organization.id])
        .await?;
    let what = ("tenantry tenant export", Action::OrganizationExported);
    let placement = Placement::from_name(&placement);
    check_placement(organization, &placement)?;
    organization.record(&transaction, &placement, what, json!({})).await?;
    Ok(transaction.commit().await?)
}

/// Checks that the organization lives in the database of this connection.
fn check_placement(organization: &Organization, placement: &Placement) -> Result<(), Failure> {
    if matches!(placement, Placement::Shared | Placement::Schema) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} has just moved to {placement}. Run the command again.",
        organization.name
    )))
}

async fn write(
    connection: &mut Client,
    id: Uuid,
    output: impl Write,
    key: Option<&[u8]>,
) -> Result<i64, Failure> {
    let mut output = Signing::new(output, key);
    let snapshot = begin_snapshot(connection).await?;
    let organization = Organization::get(&snapshot, id).await?;
    check_placement(&organization, &organization.placement)?;
    let header = Header {
        tenantry_export: FORMAT,
        organization_id: id,
        slug: organization.name.clone(),
        version: placement::SCHEMA_VERSION.clone(),
        exported_at: snapshot.query_one("SELECT to_json(now())#>>'{}'", &[]).await?,
    };
    line(&mut output, &header)?;
    let mut totals = Vec::new();
    let all = TableRows::of_all(&snapshot).await?;
    let users = users(&snapshot, &organization, &all).await?;
    let selections = [
        (format!("id IN ({users})"), "id"),
        (format!("user_id IN ({users})"), "issuer, subject"),
        ("organization_id = $1".to_owned(), "slug"),
    ];
    for (table, (condition, order)) in OTHER_TABLES.into_iter().zip(selections) {
        let selected = (table, &*condition, order);
        totals.push(write_table(&snapshot, &mut output, table, selected, id).await?);
    }
    for rows in &all {
        let place = organization.placement.table(&rows.table, id);
        let condition = format!("{} = $1", rows.table.owner_column());
        let selected = (&*place, &*condition, &*rows.table.key);
        let total = write_table(&snapshot, &mut output, &rows.table.name, selected, id).await?;
        eprintln!("{}: {} rows", total.table, total.rows);
        totals.push(total);
    }
    line(&mut output, &json!({ "totals": totals }))?;
    output.finish()?;
    Ok(totals.iter().map(|total| total.rows).sum())
}

/// Writes the organization's rows of a table: where they are, their condition and their order.
async fn write_table(
    connection: &Client,
    output: &mut impl Write,
    table: &str,
    (place, condition, order): (&str, &str, &str),
    id: Uuid,
) -> Result<Total, Failure> {
    let selected = format!("FROM {place} t WHERE {condition}");
    let sql = format!("SELECT to_jsonb(t)::text {selected} ORDER BY {order}");
    let mut count = 0;
    // Holds one row at a time in memory.
    let mut rows = pin!(connection.stream::<String>(&sql, &[&id]).await?);
    while let Some(row) = rows.try_next().await? {
        writeln!(output, "{{\"table\":\"{table}\",\"row\":{row}}}")?;
        count += 1;
    }
    let sum = sum(&columns(connection, table).await?, "t");
    let checksum = connection.query_one(&format!("SELECT {sum} {selected}"), &[&id]).await?;
    Ok(Total { table: table.to_owned(), rows: count, checksum: Some(checksum) })
}

/// Returns a query for the ids of the users that the organization's rows refer to.
async fn users(
    connection: &Client,
    organization: &Organization,
    all: &[TableRows],
) -> pg::Result<String> {
    let mut referring = Vec::new();
    for rows in all {
        let columns = user_columns(connection, &rows.table.name).await?;
        let place = organization.placement.table(&rows.table, organization.id);
        let owner = rows.table.owner_column();
        referring.extend(
            columns.iter().map(|column| format!("SELECT {column} FROM {place} WHERE {owner} = $1")),
        );
    }
    Ok(referring.join(" UNION "))
}

fn line(output: &mut impl Write, value: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer(&mut *output, value)?;
    Ok(output.write_all(b"\n")?)
}
