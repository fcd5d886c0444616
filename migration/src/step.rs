//! Steps: how the tables of a database change, once in the shared tables and once in each dedicated
//! schema, with the same text.

use crate::{names::SCHEMAS, table::Table, tenant_table::TenantTable};

/// A change of the database, applied in one transaction.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Where it comes from and its number: `core/0001_baseline` is the first step of tenantry,
    /// `app/0001_task` that of a product. Databases record it. A number has four
    /// digits, because names are compared as text.
    pub name: &'static str,
    /// The changes, in order.
    pub changes: fn() -> Vec<Change>,
}

/// A part of a step.
#[derive(Clone, Debug)]
pub enum Change {
    /// SQL that is executed once in each database: types, tables that do not belong to
    /// organizations, rows that all organizations share.
    Once(String),
    /// A new table of organizations, in the shared tables and in each dedicated schema.
    Table(Table),
    /// SQL that is executed in the shared tables and in each dedicated schema. It names tables of
    /// organizations without a schema, and all others with theirs.
    Each(String),
}

impl Change {
    /// [`Change::Once`].
    #[must_use]
    pub fn once(sql: impl Into<String>) -> Self {
        Self::Once(sql.into())
    }

    /// [`Change::Each`].
    #[must_use]
    pub fn each(sql: impl Into<String>) -> Self {
        Self::Each(sql.into())
    }

    /// The SQL for the shared tables.
    fn shared(self) -> String {
        let all = SCHEMAS.join(", ");
        match self {
            Self::Once(sql) => format!("SET LOCAL search_path = migration;\n{sql};\n"),
            Self::Each(sql) => format!("SET LOCAL search_path = {all};\n{sql};\n"),
            Self::Table(table) => {
                let schema = table.name.split('.').next().unwrap_or_default();
                let (sql, register) = (table.sql(), register(&table.listed()));
                format!("SET LOCAL search_path = {schema}, {all};\n{sql}{register}")
            }
        }
    }

    /// The SQL for a dedicated schema, which is the search path.
    fn dedicated(self, schema: &str) -> String {
        match self {
            Self::Once(_) => String::new(),
            Self::Each(sql) => format!("{sql};\n"),
            Self::Table(table) => table.sql() + &table.listed().dedicated(schema),
        }
    }
}

/// Adds a table to the list of tables of organizations. A table that follows comes after it.
pub(crate) fn register(table: &TenantTable) -> String {
    let TenantTable { name, key, mirrored } = table;
    format!(
        "INSERT INTO migration.tenant_tables (name, key, mirrored) VALUES ('{name}', '{key}', {mirrored});\n"
    )
}

impl Step {
    /// The SQL for the shared tables of a database.
    pub(crate) fn shared(&self) -> String {
        (self.changes)().into_iter().map(Change::shared).collect()
    }

    /// The SQL for a dedicated schema.
    pub(crate) fn dedicated(&self, schema: &str) -> String {
        let changes = (self.changes)().into_iter();
        let sql: String = changes.map(|change| change.dedicated(schema)).collect();
        format!("SET LOCAL search_path = {schema};\n{sql}")
    }

    /// Whether it changes dedicated schemas.
    fn is_for_schemas(&self) -> bool {
        (self.changes)().iter().any(|change| !matches!(change, Change::Once(_)))
    }
}

/// The steps that change dedicated schemas.
pub(crate) fn for_schemas<'steps>(steps: impl IntoIterator<Item = &'steps Step>) -> Vec<Step> {
    steps.into_iter().filter(|step| step.is_for_schemas()).copied().collect()
}

fn source(step: &str) -> &str {
    step.split('/').next().unwrap_or_default()
}

/// The version of a dedicated schema that has these steps: the newest one of each source.
pub(crate) fn version(steps: &[Step]) -> String {
    let mut newest: Vec<&str> = Vec::new();
    for Step { name, .. } in steps {
        newest.retain(|other| source(other) != source(name));
        newest.push(name);
    }
    newest.sort_unstable();
    newest.join(" ")
}

/// Whether a dedicated schema of this version has all steps of the version `required`.
#[must_use]
pub fn includes(version: &str, required: &str) -> bool {
    required.split_whitespace().all(|step| {
        let mut steps = version.split_whitespace();
        steps.any(|other| source(other) == source(step) && other >= step)
    })
}
