//! `tenantry audit export`: streams the entries of one organization from a single snapshot.

use std::{
    io::{self, ErrorKind, Write},
    time::{Duration, Instant},
};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::ValueEnum;
use entity::audit_log;
use serde::Serialize;
use serde_json::json;

use super::Failure;
use crate::{
    audit::{self, Filter},
    clock::Clock,
    config::{BusinessConfig, DatabaseConfig},
    organization,
    page::Cursor,
    tenancy::{Access, Databases, Reason, SystemSession, open_system},
};

/// How many rows are in memory at once.
const PAGE: u64 = 1_000;

/// How often progress is printed.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Print the audit log of an organization, oldest entry first. The export is recorded in the log.
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// The organization's slug or id. A deleted organization still has its log.
    #[arg(long)]
    organization: String,

    /// The output format.
    #[arg(long, default_value = "jsonl")]
    format: Format,

    /// Only entries from this time on, for example 2026-01-01T00:00:00Z.
    #[arg(long)]
    since: Option<DateTime<Utc>>,

    /// Only entries before this time.
    #[arg(long)]
    until: Option<DateTime<Utc>>,

    #[command(flatten)]
    database: DatabaseConfig,
    #[command(flatten)]
    business: BusinessConfig,
}

/// The output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// One JSON object per line.
    Jsonl,
    /// Comma-separated values with a header (RFC 4180); metadata is JSON.
    Csv,
}

/// A printed entry. Its fields are named as the columns.
#[derive(Debug, Serialize)]
struct Entry<'row, M> {
    id: String,
    organization_id: String,
    created_at: String,
    actor_id: Option<String>,
    actor_name: Option<&'row str>,
    action: &'row str,
    resource_type: &'row str,
    resource_id: Option<String>,
    ip_address: Option<&'row str>,
    metadata: M,
}

impl Export {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let databases = Databases::shared(&self.database.options()?)?;
        let settings = self.business.settings_for_maintenance(Clock::system())?;
        let open = |organization, access| {
            open_system(&databases, &settings, organization, Reason::AuditExport, access)
        };
        let reading = open(None, Access::Read).await?;
        let found = organization::find_by_name(&reading, &self.organization).await?;
        let id = found.ok_or_else(|| {
            Failure::new(format!("there is no organization {}", self.organization))
        })?;
        drop(reading);
        let writing = open(Some(id), Access::Write).await?;
        let metadata = json!({ "format": self.format, "since": self.since, "until": self.until });
        audit::record(&writing, audit::Action::AuditExported, Some(id.0), metadata).await?;
        writing.commit().await?;
        self.print(&open(Some(id), Access::Read).await?).await
    }

    async fn print(&self, session: &SystemSession) -> Result<(), Failure> {
        let filter = Filter { since: self.since, until: self.until, ..Filter::default() };
        audit::allow_slow_reader(session).await?;
        let (mut after, mut count, mut reported) = (None::<Cursor>, 0, Instant::now());
        loop {
            let rows = audit::page_forward(session, &filter, after.as_ref(), PAGE).await?;
            let Some(last) = rows.last() else { break };
            let page = self.format.encode(&rows, after.is_none());
            match page.and_then(|page| io::stdout().write_all(&page)) {
                Ok(()) => {}
                // A reader that needs no more closes the pipe.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(Failure::new(format!("the output failed: {error}"))),
            }
            after = Some(Cursor { at: last.created_at, id: last.id.0 });
            count += rows.len();
            if reported.elapsed() > PROGRESS_INTERVAL {
                reported = Instant::now();
                eprintln!("{count} entries so far, up to {}", last.created_at);
            }
        }
        eprintln!("exported {count} entries");
        Ok(())
    }
}

impl Format {
    /// Returns a page of entries as text. The header of CSV precedes the first entry, so an export
    /// without entries is empty.
    fn encode(self, rows: &[audit_log::Model], is_first: bool) -> io::Result<Vec<u8>> {
        let mut page = Vec::new();
        match self {
            Self::Jsonl => {
                for row in rows {
                    serde_json::to_writer(&mut page, &entry(row, &row.metadata))?;
                    page.push(b'\n');
                }
                Ok(page)
            }
            Self::Csv => {
                let mut output = csv::WriterBuilder::new().has_headers(is_first).from_writer(page);
                for row in rows {
                    output.serialize(entry(row, row.metadata.to_string()))?;
                }
                output.into_inner().map_err(csv::IntoInnerError::into_error)
            }
        }
    }
}

fn entry<M>(row: &audit_log::Model, metadata: M) -> Entry<'_, M> {
    Entry {
        id: row.id.to_string(),
        organization_id: row.organization_id.to_string(),
        created_at: row.created_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        actor_id: row.actor_id.map(|id| id.to_string()),
        actor_name: row.actor_name.as_deref(),
        action: &row.action,
        resource_type: &row.resource_type,
        resource_id: row.resource_id.map(|id| id.to_string()),
        ip_address: row.ip_address(),
        metadata,
    }
}
