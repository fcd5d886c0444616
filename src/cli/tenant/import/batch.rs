//! Inserts the rows of an export in batches and compares them with its totals.

use std::collections::HashMap;

use migration::TenantTable;
use pg::Client;
use uuid::Uuid;

use super::{
    super::{
        Failure,
        export::{OTHER_TABLES, Total},
        table_rows::{NONE, TableRows, columns, sum},
    },
    users::ImportedUsers,
};

/// Rows per statement.
const BATCH: usize = 1_000;

/// Rows of one table that are not written yet.
pub(super) struct Batch<'tables> {
    id: Uuid,
    tables: &'tables [TableRows],
    table: String,
    rows: Vec<String>,
    /// For each table, the number of rows and the sum of their hashes.
    counts: HashMap<String, (i64, i128)>,
    pub(super) users: ImportedUsers,
}

impl<'tables> Batch<'tables> {
    pub(super) fn new(id: Uuid, tables: &'tables [TableRows], users: ImportedUsers) -> Self {
        Self { id, tables, table: String::new(), rows: Vec::new(), counts: HashMap::new(), users }
    }

    /// Adds a row. Writes earlier rows if they fill a batch or belong to another table.
    pub(super) async fn add(
        &mut self,
        connection: &Client,
        table: &str,
        row: &str,
    ) -> Result<(), Failure> {
        if table != self.table || self.rows.len() == BATCH {
            self.write(connection).await?;
            table.clone_into(&mut self.table);
        }
        self.rows.push(row.to_owned());
        Ok(())
    }

    pub(super) async fn write(&mut self, connection: &Client) -> Result<(), Failure> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = format!("[{}]", self.rows.join(","));
        let known = self.tables.iter().find(|rows| rows.table.name == self.table);
        let sum = match (known, self.table.as_str()) {
            (Some(known), _) => self.write_rows(connection, known, &rows).await?,
            (None, "auth.users") => self.users.add_users(connection, &rows).await?,
            (None, "auth.identities") => self.users.add_identities(connection, &rows).await?,
            (None, "app.organization_slugs") => write_slugs(connection, self.id, &rows).await?,
            (None, table) => {
                return Err(Failure::new(format!("organizations have no table {table}")));
            }
        };
        let entry = self.counts.entry(self.table.clone()).or_default();
        entry.0 += i64::try_from(self.rows.len())?;
        entry.1 += sum;
        self.rows.clear();
        Ok(())
    }

    /// Writes rows of one table. Returns the sum of the hashes of the file's rows.
    async fn write_rows(
        &self,
        connection: &Client,
        known: &TableRows,
        rows: &str,
    ) -> Result<i128, Failure> {
        let TenantTable { name, .. } = &known.table;
        let conflict = if name == "audit.audit_logs" { "ON CONFLICT DO NOTHING" } else { "" };
        let sql = format!(
            "WITH row AS MATERIALIZED (SELECT r.* FROM jsonb_populate_recordset(NULL::{name}, $1::jsonb) r),
             put AS (INSERT INTO {name} ({bare}) SELECT {bare} FROM row WHERE {owner} = $2 {conflict})
             SELECT {sum}, count(*) FILTER (WHERE t.{owner} IS DISTINCT FROM $2) FROM row t",
            sum = known.sum("t"),
            owner = known.table.owner_column(),
            bare = known.columns(""),
        );
        let (sum, foreign): (String, i64) = connection
            .query_one(&sql, &[&rows, &self.id])
            .await
            .map_err(|error| Failure::new(format!("{name}: {}", error.explained())))?;
        if foreign > 0 {
            return Err(Failure::new(format!(
                "the export contains rows of another organization in {name}"
            )));
        }
        Ok(sum.parse()?)
    }
}

/// Restores slugs. A retired slug that another organization has taken since stays with it.
async fn write_slugs(connection: &Client, id: Uuid, rows: &str) -> Result<i128, Failure> {
    let columns = columns(connection, "app.organization_slugs").await?;
    let sql = format!(
        "WITH row AS MATERIALIZED (
             SELECT r.* FROM jsonb_populate_recordset(NULL::app.organization_slugs, $1::jsonb) r),
         put AS (
             INSERT INTO app.organization_slugs AS s ({bare}) SELECT {bare} FROM row r WHERE r.organization_id = $2
             ON CONFLICT (slug) DO UPDATE SET organization_id = $2, retired_at = excluded.retired_at, claimed_by = excluded.claimed_by
             WHERE s.organization_id = $2 OR (excluded.retired_at IS NULL AND s.retired_at < now() - interval '90 days'))
         SELECT {sum} FROM row t",
        bare = columns.join(", "),
        sum = sum(&columns, "t"),
    );
    let sum: String = connection.query_one(&sql, &[&rows, &id]).await?;
    Ok(sum.parse()?)
}

/// Checks that the file's rows match its totals, and that the tables now match the file.
pub(super) async fn check(
    connection: &Client,
    batch: &Batch<'_>,
    totals: &[Total],
) -> Result<(), Failure> {
    let tables = batch.tables.iter().map(|rows| &*rows.table.name).chain(OTHER_TABLES);
    for table in tables {
        let total = totals.iter().find(|total| total.table == table);
        let total =
            total.ok_or_else(|| Failure::new(format!("the export has no total of {table}")))?;
        let (count, sum) = batch.counts.get(table).copied().unwrap_or_default();
        let expected = total
            .checksum
            .as_ref()
            .ok_or_else(|| Failure::new(format!("the export has no checksum of {table}")))?;
        if count != total.rows || *expected != sum.to_string() {
            return Err(Failure::new(format!(
                "{table}: the export has {count} rows that do not match its total of {} rows",
                total.rows
            )));
        }
    }
    for rows in batch.tables.iter().filter(|rows| rows.table.base_name() != "audit_logs") {
        let (count, sum) = batch.counts.get(&rows.table.name).copied().unwrap_or_default();
        let there = rows.digest(connection, &rows.table.name, batch.id, NONE).await?;
        if (there.count, there.sum) != (count, sum.to_string()) {
            return Err(Failure::new(format!(
                "the rows in {} differ from the rows of the export",
                rows.table.name
            )));
        }
    }
    Ok(())
}
