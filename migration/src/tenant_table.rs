//! The tables whose rows belong to organizations, as `migration.tenant_tables` lists them. Commands
//! that move, export and check organizations read the list from the database.

use pg::Client;

/// A table whose rows belong to organizations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantTable {
    /// The name of the shared table, with its schema.
    pub name: String,
    /// The columns of its primary key; the first one is the organization.
    pub key: String,
    /// The shared table has copies of rows that are placed in a dedicated schema or database, so
    /// that they are found before the organization is known.
    pub mirrored: bool,
}

impl TenantTable {
    /// All tables, referenced tables first.
    ///
    /// # Errors
    ///
    /// When the database is not migrated, or fails.
    pub async fn list(connection: &Client) -> pg::Result<Vec<Self>> {
        let sql = "SELECT name, key, mirrored FROM migration.tenant_tables ORDER BY position";
        let rows: Vec<(String, String, bool)> = connection.query(sql, &[]).await?;
        Ok(rows.into_iter().map(|(name, key, mirrored)| Self { name, key, mirrored }).collect())
    }

    /// The name without its schema.
    #[must_use]
    pub fn base_name(&self) -> &str {
        base_name(&self.name)
    }

    /// The table in a dedicated schema.
    #[must_use]
    pub fn in_schema(&self, schema: &str) -> String {
        in_schema(schema, &self.name)
    }

    /// The column of the organization.
    #[must_use]
    pub fn owner_column(&self) -> &str {
        self.key.split_once(',').map_or(&*self.key, |(column, _)| column)
    }

    /// What the table has in a dedicated schema only, as SQL: a constraint that admits no other
    /// organization, and a trigger that copies its rows to the shared table if it is mirrored.
    pub(crate) fn dedicated(&self, schema: &str) -> String {
        let (table, column) = (self.in_schema(schema), self.owner_column());
        let organization = schema.trim_start_matches("org_");
        let constraint = format!(
            "ALTER TABLE {table} ADD CONSTRAINT single_organization CHECK ({column} = '{organization}');\n"
        );
        let Self { name, key, .. } = self;
        let mirror = format!(
            "CREATE TRIGGER mirror_row AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW
                 WHEN (current_setting('app.replicating', true) IS DISTINCT FROM 'on')
                 EXECUTE FUNCTION app.mirror_row('{name}', '{key}');\n"
        );
        constraint + if self.mirrored { &mirror } else { "" }
    }
}

/// The name of a table without its schema.
pub(crate) fn base_name(table: &str) -> &str {
    table.split_once('.').map_or(table, |(_, name)| name)
}

/// The table in a dedicated schema that corresponds to a shared table.
pub(crate) fn in_schema(schema: &str, shared: &str) -> String {
    format!("{schema}.{}", base_name(shared))
}
