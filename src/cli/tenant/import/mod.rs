//! `tenantry tenant import`: restores one organization from a file of `tenantry tenant export`, in
//! one transaction.
//!
//! The transaction commits only after the file's signature and every checksum are verified.

mod batch;
mod users;

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use migration::placement;
use pg::Client;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use uuid::Uuid;

use super::{
    Failure,
    export::{FORMAT, Header, Total},
    locks::{exclude_writers, lock_move},
    organization::{Organization, audit_logs},
    placement::Placement,
    signature::Verifying,
    table_rows::{TableRows, columns},
};
use crate::{audit::Action, cli::say, config::ExportConfig};

use batch::{Batch, check};
use users::ImportedUsers;

/// Restore a deleted organization from a file of tenantry tenant export, completely or not at all.
/// Existing users and audit entries stay as they are. No other organization may have its slug.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The file. - is the standard input.
    file: PathBuf,

    /// Import a file without verifying its signature. Users that it creates cannot sign in. Refused
    /// if it would make existing users members.
    #[arg(long)]
    unsigned: bool,

    /// Trust an unverified file about members and about how they sign in.
    #[arg(long, requires = "unsigned")]
    trust_members: bool,

    #[command(flatten)]
    keys: ExportConfig,
}

#[derive(Deserialize)]
struct Line<'line> {
    table: &'line str,
    #[serde(borrow)]
    row: &'line RawValue,
}

#[derive(Deserialize)]
struct Trailer {
    totals: Vec<Total>,
}

impl Import {
    pub(super) async fn run(self, connection: &mut Client) -> Result<(), Failure> {
        let input: Box<dyn BufRead> = if self.file == Path::new("-") {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let file = File::open(&self.file)
                .map_err(|error| Failure::new(format!("{}: {error}", self.file.display())))?;
            Box::new(BufReader::new(file))
        };
        let keys = (!self.unsigned).then(|| self.keys.keys()).transpose()?;
        let mut input = Verifying::new(input, keys.as_ref());
        let header: Header = serde_json::from_str(&input.next_line()?.unwrap_or_default())
            .map_err(|_| Failure::new("the file is not an export of an organization"))?;
        if header.tenantry_export != FORMAT || header.version != *placement::SCHEMA_VERSION {
            return Err(Failure::new(format!(
                "the export has format {} and version {}, but this tenantry reads {FORMAT} and {}. Import it with the tenantry that wrote it, then migrate.",
                header.tenantry_export,
                header.version,
                *placement::SCHEMA_VERSION
            )));
        }
        let before = Organization::get(connection, header.organization_id).await?;
        lock_move(connection, &before).await?;
        let transaction = connection.begin().await?;
        let count = self.import(&transaction, &header, input).await?;
        let locked_out = users::locked_out(&transaction, header.organization_id).await?;
        transaction.commit().await?;
        say(format!("restored {} as of {}: {count} rows", header.slug, header.exported_at));
        if !locked_out.is_empty() {
            say(format!("members without an identity cannot sign in: {}", locked_out.join(", ")));
        }
        Ok(())
    }
    async fn import(
        &self,
        connection: &Client,
        header: &Header,
        mut input: Verifying<impl BufRead>,
    ) -> Result<i64, Failure> {
        let id = header.organization_id;
        exclude_writers(connection, id).await?;
        connection.batch("SET LOCAL lock_timeout = 0; SET LOCAL app.replicating = 'on'").await?;
        let organization = Organization::get(connection, id).await?;
        check_conflicts(connection, header, &organization).await?;
        if organization.placement == Placement::Schema {
            restore_log(connection, &organization).await?;
        }
        let tables = TableRows::of_all(connection).await?;
        let mut batch =
            Batch::new(id, &tables, ImportedUsers::new(!self.unsigned || self.trust_members));
        let trailer: Trailer = loop {
            let text = input.next_line()?;
            let text = text.ok_or_else(|| Failure::new("the export is incomplete"))?;
            let Ok(line) = serde_json::from_str::<Line>(&text) else {
                break serde_json::from_str(&text)
                    .map_err(|_| Failure::new("the export contains an invalid line"))?;
            };
            batch.add(connection, line.table, line.row.get()).await?;
        };
        batch.write(connection).await?;
        input.verify()?;
        check(connection, &batch, &trailer.totals).await?;
        batch.users.check_members(connection, id).await?;
        let count = trailer.totals.iter().map(|total| total.rows).sum();
        let what = ("tenantry tenant import", Action::OrganizationRestored);
        let metadata =
            json!({ "exported_at": header.exported_at, "rows": count, "signed": !self.unsigned });
        organization.record(connection, &Placement::Shared, what, metadata).await?;
        Ok(count)
    }
}

/// Names what prevents the import.
async fn check_conflicts(
    connection: &Client,
    header: &Header,
    organization: &Organization,
) -> Result<(), Failure> {
    if !organization.ended {
        return Err(Failure::new(format!(
            "the organization {} exists. Only a deleted organization can be restored.",
            organization.name
        )));
    }
    if let Some(database) = organization.placement.database() {
        return Err(Failure::new(format!(
            "{} was deleted in the database {database}, which has its audit log. Run `tenantry tenant move {} --to shared` first.",
            header.slug, organization.id
        )));
    }
    if organization.moving_to.is_some() {
        return Err(Failure::new(format!(
            "{} was deleted during a move. Cancel the move first.",
            header.slug
        )));
    }
    let holder: Option<Uuid> = connection
        .query_opt(
            "SELECT organization_id FROM app.organization_slugs WHERE slug = $1 AND organization_id <> $2
             AND (retired_at IS NULL OR retired_at > now() - interval '90 days')",
            &[&header.slug, &organization.id],
        )
        .await?;
    match holder {
        Some(holder) => Err(Failure::new(format!(
            "the slug {} is taken by the organization {holder}. Change that slug first.",
            header.slug
        ))),
        None => Ok(()),
    }
}

/// Copies the audit log from the dedicated schema in which the organization lived.
async fn restore_log(connection: &Client, organization: &Organization) -> Result<(), Failure> {
    let columns = columns(connection, "audit.audit_logs").await?.join(", ");
    let copied = format!(
        "INSERT INTO audit.audit_logs ({columns}) SELECT {columns} FROM {} ON CONFLICT DO NOTHING",
        audit_logs(true, organization.id)
    );
    connection.batch(&copied).await?;
    connection
        .execute(
            "UPDATE app.placements SET placement = 'shared', moving_to = NULL, moved_at = now(), old_placement = 'schema', keep_old_until = now() + interval '7 days'
         WHERE organization_id = $1",
            &[&organization.id],
        )
        .await?;
    Ok(())
}
