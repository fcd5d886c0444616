//! `tenantry tenant import`: brings one organization back, in one transaction, from what `tenantry tenant export` wrote.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use migration::placement::{self, Table};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use super::{
    Failure,
    export::{FORMAT, Header, Total},
    home::Home,
    patience::{become_mover, exclude_writers},
    place::Organization,
    rows::{NONE, Rows, columns},
};
use crate::{audit::Action, cli::say};

/// Rows of a statement.
const BATCH: usize = 1_000;

/// Bring an organization back from a file of tenantry tenant export, into the shared tables, all of it or nothing. Nobody may have
/// its slug meanwhile. People who are there are left as they are; entries of its audit log that are still there are kept.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The file; - is the standard input.
    file: PathBuf,
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
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<(), Failure> {
        let mut input: Box<dyn BufRead> = if self.file == Path::new("-") {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let file = File::open(&self.file)
                .map_err(|error| Failure::new(format!("{}: {error}", self.file.display())))?;
            Box::new(BufReader::new(file))
        };
        let header: Header = serde_json::from_str(&next(&mut input)?.unwrap_or_default())
            .map_err(|_| Failure::new("this is no export of an organization"))?;
        if header.tenantry_export != FORMAT || header.version != placement::SCHEMA_VERSION {
            return Err(Failure::new(format!(
                "the export is of format {} and version {}, and this is {FORMAT} and {}: use the tenantry that wrote it, then migrate",
                header.tenantry_export,
                header.version,
                placement::SCHEMA_VERSION
            )));
        }
        let before = Organization::get(connection, header.organization_id).await?;
        become_mover(connection, &before).await?;
        let mut transaction = connection.begin().await?;
        let count = import(&mut transaction, &header, &mut input).await?;
        transaction.commit().await?;
        say(format!("{} is back, as of {}: {count} rows", header.slug, header.exported_at));
        Ok(())
    }
}

async fn import(
    connection: &mut PgConnection,
    header: &Header,
    input: &mut impl BufRead,
) -> Result<i64, Failure> {
    let id = header.organization_id;
    exclude_writers(connection, id).await?;
    connection.execute("SET LOCAL lock_timeout = 0; SET LOCAL app.copying = 'on'").await?;
    let organization = Organization::get(connection, id).await?;
    check_room(connection, header, &organization).await?;
    if organization.home == Home::Schema {
        bring_log_home(connection, &organization).await?;
    }
    let tables = Rows::of_all(connection).await?;
    let mut batch = Batch {
        id,
        tables: &tables,
        table: String::new(),
        rows: Vec::new(),
        counts: HashMap::new(),
    };
    let trailer: Trailer = loop {
        let text = next(input)?.ok_or_else(|| Failure::new("the export ends too early"))?;
        let Ok(line) = serde_json::from_str::<Line>(&text) else {
            break serde_json::from_str(&text)
                .map_err(|_| Failure::new("a line of the export is no row"))?;
        };
        if line.table != batch.table || batch.rows.len() == BATCH {
            batch.write(connection).await?;
            line.table.clone_into(&mut batch.table);
        }
        batch.rows.push(line.row.get().to_owned());
    };
    batch.write(connection).await?;
    check(connection, &batch, &trailer.totals).await?;
    let count = trailer.totals.iter().map(|total| total.rows).sum();
    let what = ("tenantry tenant import", Action::OrganizationRestored);
    let metadata = json!({ "exported_at": header.exported_at, "rows": count });
    organization.record(connection, &Home::Shared, what, metadata).await?;
    Ok(count)
}

fn next(input: &mut impl BufRead) -> Result<Option<String>, Failure> {
    let mut text = String::new();
    let read = input.read_line(&mut text).map_err(Failure::new)?;
    Ok((read > 0).then_some(text))
}

/// Names what is in the way.
async fn check_room(
    connection: &mut PgConnection,
    header: &Header,
    organization: &Organization,
) -> Result<(), Failure> {
    if !organization.ended {
        return Err(Failure::new(format!(
            "the organization {} is there: only one that has ended is brought back",
            organization.name
        )));
    }
    if let Some(database) = organization.home.database() {
        return Err(Failure::new(format!(
            "{} ended in the database {database}, where its audit log is: tenantry tenant move {} --to shared brings that home first",
            header.slug, organization.id
        )));
    }
    if organization.moving_to.is_some() {
        return Err(Failure::new(format!(
            "{} ended on its way: call its move off first",
            header.slug
        )));
    }
    let holder: Option<Uuid> = sqlx::query_scalar(
        "SELECT organization_id FROM app.organization_slugs WHERE slug = $1 AND organization_id <> $2
             AND (retired_at IS NULL OR retired_at > now() - interval '90 days')",
    )
    .bind(&header.slug)
    .bind(organization.id)
    .fetch_optional(connection)
    .await?;
    match holder {
        Some(holder) => Err(Failure::new(format!(
            "the slug {} is taken by the organization {holder}",
            header.slug
        ))),
        None => Ok(()),
    }
}

/// What lived in a schema left its audit log there.
async fn bring_log_home(
    connection: &mut PgConnection,
    organization: &Organization,
) -> Result<(), Failure> {
    let log = placement::TABLES.iter().find(|table| table.base_name() == "audit_logs");
    if let Some(log) = log {
        let columns = columns(connection, log.name).await?.join(", ");
        let sql = format!(
            "INSERT INTO {} ({columns}) SELECT {columns} FROM {} ON CONFLICT DO NOTHING",
            log.name,
            Home::Schema.table(log, organization.id)
        );
        connection.execute(AssertSqlSafe(sql)).await?;
    }
    sqlx::query(
        "UPDATE app.placements SET home = 'shared', moving_to = NULL, moved_at = now(), old_home = 'schema', keep_old_until = now() + interval '7 days'
         WHERE organization_id = $1",
    )
    .bind(organization.id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Rows of one table on their way in.
struct Batch<'tables> {
    id: Uuid,
    tables: &'tables [Rows],
    table: String,
    rows: Vec<String>,
    /// Of each table: how many rows, and the sum of their hashes.
    counts: HashMap<String, (i64, i128)>,
}

impl Batch<'_> {
    async fn write(&mut self, connection: &mut PgConnection) -> Result<(), Failure> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = format!("[{}]", self.rows.join(","));
        let known = self.tables.iter().find(|rows| rows.table.name == self.table);
        let sum = match (known, self.table.as_str()) {
            (Some(known), _) => self.write_rows(connection, known, &rows).await?,
            (None, "auth.users") => write_people(connection, &rows).await?,
            (None, "app.organization_slugs") => write_slugs(connection, self.id, &rows).await?,
            (None, table) => {
                return Err(Failure::new(format!("there is no table {table} of organizations")));
            }
        };
        let entry = self.counts.entry(self.table.clone()).or_default();
        entry.0 += i64::try_from(self.rows.len()).map_err(Failure::new)?;
        entry.1 += sum;
        self.rows.clear();
        Ok(())
    }

    /// Answers the sum of the hashes of the file's rows, whatever was there.
    async fn write_rows(
        &self,
        connection: &mut PgConnection,
        known: &Rows,
        rows: &str,
    ) -> Result<i128, Failure> {
        let Table { name, .. } = known.table;
        let conflict = if *name == "audit.audit_logs" { "ON CONFLICT DO NOTHING" } else { "" };
        let sql = format!(
            "WITH row AS MATERIALIZED (SELECT r.* FROM jsonb_populate_recordset(NULL::{name}, $1::jsonb) r),
             put AS (INSERT INTO {name} ({bare}) SELECT {bare} FROM row WHERE {owner} = $2 {conflict})
             SELECT {sum}, count(*) FILTER (WHERE t.{owner} IS DISTINCT FROM $2) FROM row t",
            sum = known.sum("t"),
            owner = known.table.owner_column(),
            bare = known.columns(""),
        );
        let (sum, strangers): (String, i64) = sqlx::query_as(AssertSqlSafe(sql))
            .bind(rows)
            .bind(self.id)
            .fetch_one(connection)
            .await
            .map_err(|error| Failure::new(format!("{name}: {error}")))?;
        if strangers > 0 {
            return Err(Failure::new(format!(
                "the export has rows of another organization in {name}"
            )));
        }
        sum.parse().map_err(Failure::new)
    }
}

/// By their id; an address that somebody else has by now is theirs.
async fn write_people(connection: &mut PgConnection, rows: &str) -> Result<i128, Failure> {
    let columns = columns(connection, "auth.users").await?.join(", ");
    let sql = format!(
        "INSERT INTO auth.users ({columns}) SELECT {columns} FROM (
             SELECT (r).* FROM (
                 SELECT jsonb_populate_record(NULL::auth.users, CASE WHEN EXISTS (SELECT FROM auth.users u WHERE u.email = v->>'email')
                                                                     THEN v - 'email' ELSE v END) AS r
                 FROM jsonb_array_elements($1::jsonb) v) person) person
         ON CONFLICT (id) DO NOTHING"
    );
    sqlx::query(AssertSqlSafe(sql)).bind(rows).execute(connection).await?;
    Ok(0)
}

/// Retired ones that others have taken since are theirs.
async fn write_slugs(connection: &mut PgConnection, id: Uuid, rows: &str) -> Result<i128, Failure> {
    let columns = columns(connection, "app.organization_slugs").await?.join(", ");
    let sql = format!(
        "INSERT INTO app.organization_slugs AS s ({columns})
             SELECT {columns} FROM jsonb_populate_recordset(NULL::app.organization_slugs, $1::jsonb) r WHERE r.organization_id = $2
         ON CONFLICT (slug) DO UPDATE SET organization_id = $2, retired_at = excluded.retired_at, claimed_by = excluded.claimed_by
         WHERE s.organization_id = $2 OR (excluded.retired_at IS NULL AND s.retired_at < now() - interval '90 days')"
    );
    sqlx::query(AssertSqlSafe(sql)).bind(rows).bind(id).execute(connection).await?;
    Ok(0)
}

/// What was read is what was written, and what is there now is what was read.
async fn check(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
    totals: &[Total],
) -> Result<(), Failure> {
    let tables = batch
        .tables
        .iter()
        .map(|rows| rows.table.name)
        .chain(["auth.users", "app.organization_slugs"]);
    for table in tables {
        let total = totals.iter().find(|total| total.table == table);
        let total =
            total.ok_or_else(|| Failure::new(format!("the export says nothing of {table}")))?;
        let (count, sum) = batch.counts.get(table).copied().unwrap_or_default();
        if count != total.rows
            || total.checksum.as_ref().is_some_and(|expected| *expected != sum.to_string())
        {
            return Err(Failure::new(format!(
                "{table}: the export has {count} rows, and not the {} that were written, or others",
                total.rows
            )));
        }
    }
    for rows in batch.tables.iter().filter(|rows| rows.table.base_name() != "audit_logs") {
        let (count, sum) = batch.counts.get(rows.table.name).copied().unwrap_or_default();
        let there = rows.digest(connection, rows.table.name, batch.id, NONE).await?;
        if (there.count, there.sum) != (count, sum.to_string()) {
            return Err(Failure::new(format!("{} is not as it was written", rows.table.name)));
        }
    }
    Ok(())
}
