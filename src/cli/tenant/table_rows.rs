//! SQL over the rows of an organization in one table. It reads the columns from the catalogue, so
//! that a migration needs no change here.

use migration::TenantTable;
use pg::Client;
use uuid::Uuid;

use crate::cli::say;

/// A table of organizations and its columns, quoted.
#[derive(Debug)]
pub(super) struct TableRows {
    pub(super) table: TenantTable,
    columns: Vec<String>,
}

/// A fingerprint of a set of rows, independent of their order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) count: i64,
    pub(super) sum: String,
}

impl Digest {
    /// Prints a line with the rows' place.
    pub(super) fn print(&self, place: &str) {
        say(format!("{place:<60} {:>10} rows  checksum {:>22}", self.count, self.sum));
    }
}

/// An empty JSON list of keys.
pub(super) const NONE: &str = "[]";

impl TableRows {
    /// Returns every table of organizations.
    pub(super) async fn of_all(connection: &Client) -> pg::Result<Vec<Self>> {
        let mut all = Vec::new();
        for table in TenantTable::list(connection).await? {
            let columns = columns(connection, &table.name).await?;
            all.push(Self { table, columns });
        }
        Ok(all)
    }

    /// The columns of `alias`, separated by commas.
    pub(super) fn columns(&self, alias: &str) -> String {
        listed(self.columns.iter().map(String::as_str), alias)
    }

    /// The columns of the primary key of `alias`.
    pub(super) fn keys(&self, alias: &str) -> String {
        listed(self.table.key.split(", "), alias)
    }

    /// The condition that both aliases have the same primary key.
    pub(super) fn same(&self, one: &str, other: &str) -> String {
        let keys = self.table.key.split(", ").map(|key| format!("{one}.{key} = {other}.{key}"));
        keys.collect::<Vec<_>>().join(" AND ")
    }

    /// A row as one text.
    pub(super) fn text(&self, alias: &str) -> String {
        text(&self.columns, alias)
    }

    /// The keys, as JSON, of rows that `log` has in this transaction's snapshot, and their number.
    pub(super) async fn noted_keys(
        &self,
        connection: &Client,
        log: &str,
        organization: Uuid,
    ) -> pg::Result<(String, i64)> {
        let sql = format!(
            "SELECT coalesce(jsonb_agg(DISTINCT key), '[]')::text, count(DISTINCT key) FROM {log}
             WHERE organization_id = $1 AND table_name = $2"
        );
        connection.query_one(&sql, &[&organization, &self.table.base_name()]).await
    }

    /// The digest of the organization's rows in `place`, without the keys in the JSON `left_out`.
    pub(super) async fn digest(
        &self,
        connection: &Client,
        place: &str,
        organization: Uuid,
        left_out: &str,
    ) -> pg::Result<Digest> {
        let sql = format!(
            "WITH left_out AS MATERIALIZED ({})
             SELECT count(*), {} FROM {place} t
             WHERE t.{} = $1 AND NOT EXISTS (SELECT FROM left_out k WHERE {})",
            self.keyed(2),
            self.sum("t"),
            self.table.owner_column(),
            self.same("k", "t")
        );
        let (count, sum) = connection.query_one(&sql, &[&organization, &left_out]).await?;
        Ok(Digest { count, sum })
    }

    /// The keys in the parameter, a JSON array.
    pub(super) fn keyed(&self, parameter: u8) -> String {
        format!(
            "SELECT {} FROM jsonb_populate_recordset(NULL::{}, ${parameter}::jsonb) r",
            self.keys("r"),
            self.table.name
        )
    }

    /// The rows in the parameter, an array of texts. Each is a whole row of a table with the same
    /// columns.
    pub(super) fn parsed(&self, parameter: u8) -> String {
        let columns = self.columns.iter().map(|column| format!("(whole).{column}"));
        // OFFSET keeps PostgreSQL from parsing the row once per column.
        format!(
            "SELECT {} FROM (SELECT v::{} AS whole FROM unnest(${parameter}::text[]) v OFFSET 0) read",
            columns.collect::<Vec<_>>().join(", "),
            self.table.name
        )
    }

    /// The sum of the hashes of the rows of `alias`.
    pub(super) fn sum(&self, alias: &str) -> String {
        sum(&self.columns, alias)
    }
}

/// The sum of the hashes of rows with these columns.
pub(super) fn sum(columns: &[String], alias: &str) -> String {
    format!("coalesce(sum(hashtextextended({}, 0)), 0)::text", text(columns, alias))
}

fn text(columns: &[String], alias: &str) -> String {
    format!("ROW({})::text", listed(columns.iter().map(String::as_str), alias))
}

/// The columns of a table that refer to users.
pub(super) async fn user_columns(connection: &Client, table: &str) -> pg::Result<Vec<String>> {
    connection
        .query(
            "SELECT quote_ident(a.attname) FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
         WHERE c.conrelid = $1::regclass AND c.confrelid = 'auth.users'::regclass AND cardinality(c.conkey) = 1",
            &[&table],
        )
        .await
}

fn listed<'name>(names: impl Iterator<Item = &'name str>, alias: &str) -> String {
    let dot = if alias.is_empty() { "" } else { "." };
    names.map(|name| format!("{alias}{dot}{name}")).collect::<Vec<_>>().join(", ")
}

/// The columns of a table that are stored, not generated.
pub(super) async fn columns(connection: &Client, table: &str) -> pg::Result<Vec<String>> {
    connection
        .query(
            "SELECT quote_ident(attname) FROM pg_attribute
         WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
            &[&table],
        )
        .await
}
