//! `tenantry audit export`: streams the entries of one organization from a single snapshot.

use std::{
    io::{self, BufWriter, ErrorKind, Write},
    time::{Duration, Instant},
};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::ValueEnum;
use entity::{OrganizationId, audit_log};
use serde::Serialize;

use super::Failure;
use crate::{
    audit::{self, Filter},
    clock::Clock,
    config::{BusinessConfig, DatabaseConfig},
    error::Error,
    organization,
    page::Cursor,
    tenancy::{Access, Databases, Reason, Settings, SystemSession, open_system},
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
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
        let options = self.database.options()?;
        let settings = self.business.settings_for_maintenance(Clock::system())?;
        let databases = Databases::shared(&options)?;
        let id = self.find(&databases, &settings).await?;
        self.record(&databases, &settings, id).await?;
        let session =
            open_system(&databases, &settings, Some(id), Reason::AuditExport, Access::Read).await?;
        let output = BufWriter::new(io::stdout().lock());
        let outcome = match self.format {
            Format::Jsonl => self.print(&session, Jsonl(output)).await,
            Format::Csv => self.print(&session, Csv(csv::Writer::from_writer(output))).await,
        };
        match outcome {
            // The reader closed the pipe because it needs no more.
            Err(Stop::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(Stop::Output(error)) => Err(Failure::new(format!("the output failed: {error}"))),
            Err(Stop::Failure(failure)) => Err(failure),
            Ok(count) => {
                eprintln!("exported {count} entries");
                Ok(())
            }
        }
    }

    async fn find(
        &self,
        databases: &Databases,
        settings: &Settings,
    ) -> Result<OrganizationId, Failure> {
        let session =
            open_system(databases, settings, None, Reason::AuditExport, Access::Read).await?;
        organization::find_by_name(&session, &self.organization)
            .await?
            .ok_or_else(|| Failure::new(format!("there is no organization {}", self.organization)))
    }

    async fn record(
        &self,
        databases: &Databases,
        settings: &Settings,
        id: OrganizationId,
    ) -> Result<(), Failure> {
        let session =
            open_system(databases, settings, Some(id), Reason::AuditExport, Access::Write).await?;
        let format = match self.format {
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
        };
        let metadata =
            serde_json::json!({ "format": format, "since": self.since, "until": self.until });
        audit::record(&session, audit::Action::AuditExported, Some(id.0), metadata).await?;
        Ok(session.commit().await?)
    }

    async fn print(&self, session: &SystemSession, mut output: impl Sink) -> Result<u64, Stop> {
        let filter = Filter { since: self.since, until: self.until, ..Filter::default() };
        audit::allow_slow_reader(session).await?;
        let (mut after, mut count, mut reported) = (None::<Cursor>, 0, Instant::now());
        loop {
            let rows = audit::page_forward(session, &filter, after.as_ref(), PAGE).await?;
            let Some(last) = rows.last() else {
                output.finish()?;
                return Ok(count);
            };
            after = Some(Cursor { at: last.created_at, id: last.id.0 });
            for row in &rows {
                output.write(row)?;
            }
            count += rows.len() as u64;
            if reported.elapsed() > PROGRESS_INTERVAL {
                reported = Instant::now();
                eprintln!("{count} entries so far, up to {}", last.created_at);
            }
        }
    }
}

/// Why printing ended early.
enum Stop {
    Output(io::Error),
    Failure(Failure),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failure(error.into())
    }
}

trait Sink {
    fn write(&mut self, row: &audit_log::Model) -> io::Result<()>;
    fn finish(&mut self) -> io::Result<()>;
}

struct Jsonl<W: Write>(W);

impl<W: Write> Sink for Jsonl<W> {
    fn write(&mut self, row: &audit_log::Model) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, &entry(row, &row.metadata))?;
        self.0.write_all(b"\n")
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

struct Csv<W: Write>(csv::Writer<W>);

impl<W: Write> Sink for Csv<W> {
    fn write(&mut self, row: &audit_log::Model) -> io::Result<()> {
        self.0.serialize(entry(row, row.metadata.to_string())).map_err(io::Error::from)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
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
