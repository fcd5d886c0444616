//! The declaration of a table whose rows belong to organizations. Its columns are plain SQL; what
//! is the same for all such tables follows from the declaration.

use crate::{
    rls::{self, ALL, Verb},
    tenant_table::{TenantTable, base_name},
};

/// A table whose rows belong to organizations.
///
/// ```
/// use migration::{OnDelete::{Cascade, SetNull}, Reference, Table};
///
/// const TASKS: Table = Table {
///     name: "app.tasks",
///     resource: "task",
///     columns: "
///         project_id uuid NOT NULL,
///         title      text NOT NULL,
///         created_by uuid",
///     references: &[
///         Reference::tenant("project_id", "projects", Cascade),
///         Reference::global("created_by", "auth.users", SetNull),
///     ],
///     ..Table::RESOURCE
/// };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The shared table, with its schema.
    pub name: &'static str,
    /// The columns of the primary key; the first one is the organization. `id` is generated.
    pub key: &'static str,
    /// What a row is, in the singular, as in the actions of the audit log.
    pub resource: &'static str,
    /// The columns and constraints besides those of the key, `created_at` and `updated_at`.
    pub columns: &'static str,
    /// The foreign keys, each with its index. In a paged table, that of [`Reference::tenant`] also
    /// reads the pages of the rows with the same reference, such as the tasks of each project.
    pub references: &'static [Reference],
    /// What requests may do with the rows of their organization.
    pub verbs: &'static [Verb],
    /// What background work may do with the rows of the organization that it has entered.
    pub system: &'static [Verb],
    /// Clients list the rows by page, newest first.
    pub paged: bool,
    /// Rows must be found before the organization is known: see [`TenantTable::mirrored`].
    pub mirrored: bool,
    /// SQL that follows, for further indexes and comments.
    pub more: &'static str,
}

/// A foreign key.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    column: &'static str,
    table: &'static str,
    on_delete: OnDelete,
    is_tenant: bool,
}

/// What happens to a row when the row to which it refers is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// The deletion is refused.
    Refuse,
    /// It is deleted as well.
    Cascade,
    /// It remains, without the reference.
    SetNull,
}

impl Reference {
    /// To a table of organizations, named without its schema: the row belongs to the same
    /// organization. What a deletion takes along or sets to null is recorded and published.
    #[must_use]
    pub const fn tenant(column: &'static str, table: &'static str, on_delete: OnDelete) -> Self {
        Self { column, table, on_delete, is_tenant: true }
    }

    /// To a table that all organizations share.
    #[must_use]
    pub const fn global(column: &'static str, table: &'static str, on_delete: OnDelete) -> Self {
        Self { column, table, on_delete, is_tenant: false }
    }

    fn columns(&self) -> String {
        let organization = if self.is_tenant { "organization_id, " } else { "" };
        organization.to_owned() + self.column
    }

    fn sql(&self) -> String {
        let Self { column, table, .. } = self;
        let on_delete = match self.on_delete {
            OnDelete::Refuse => String::new(),
            OnDelete::Cascade => " ON DELETE CASCADE".to_owned(),
            // The organization stays.
            OnDelete::SetNull if self.is_tenant => format!(" ON DELETE SET NULL ({column})"),
            OnDelete::SetNull => " ON DELETE SET NULL".to_owned(),
        };
        format!(",\n    FOREIGN KEY ({}) REFERENCES {table}{on_delete}", self.columns())
    }
}

impl Table {
    /// A resource: `organization_id` and `id` identify a row, and requests may do everything.
    pub const RESOURCE: Self = Self {
        name: "",
        key: "organization_id, id",
        resource: "",
        columns: "",
        references: &[],
        verbs: ALL,
        system: &[],
        paged: true,
        mirrored: false,
        more: "",
    };

    /// A table with another key, whose columns are declared.
    pub const KEYED: Self = Self { key: "organization_id", paged: false, ..Self::RESOURCE };

    /// The table as the catalogue lists it.
    pub(crate) fn listed(&self) -> TenantTable {
        TenantTable {
            name: self.name.to_owned(),
            key: self.key.to_owned(),
            mirrored: self.mirrored,
        }
    }

    /// The SQL that creates it in the first schema of the search path. Tables of organizations have
    /// no schema in it, so that it is the same in shared and in dedicated schemas.
    pub(crate) fn sql(&self) -> String {
        let (table, owner) =
            (base_name(self.name), self.key.split(", ").next().unwrap_or_default());
        let order = if self.paged { ", created_at DESC, id DESC" } else { "" };
        let page = format!("CREATE INDEX ON {table} ({owner}{order});\n");
        let index = |reference: &Reference| {
            let order = if reference.is_tenant { order } else { "" };
            format!("CREATE INDEX ON {table} ({}{order});\n", reference.columns())
        };
        [
            self.create(),
            if self.paged { page } else { String::new() },
            self.references.iter().map(index).collect(),
            self.more.to_owned(),
            rls::tenant(table, self.key, self.verbs),
            rls::system(table, owner, self.system),
            rls::touch(table),
            self.record_cascades(table),
        ]
        .concat()
    }

    /// Records what deletions elsewhere do to rows. Foreign keys are enforced by triggers, so these
    /// triggers run within another one.
    fn record_cascades(&self, table: &str) -> String {
        let argument = |reference: &Reference| format!(", '{}'", reference.column);
        let columns = |on_delete: OnDelete| {
            let references = self.references.iter().filter(|reference| reference.is_tenant);
            let references = references.filter(|reference| reference.on_delete == on_delete);
            references.map(argument).collect::<String>()
        };
        let trigger = |event: &str, tables: &str, columns: &str| {
            format!(
                "CREATE TRIGGER record_cascade_{} AFTER {event} ON {table} REFERENCING {tables}
                     FOR EACH STATEMENT WHEN (pg_trigger_depth() > 0)
                     EXECUTE FUNCTION app.record_cascade('{}', '{}'{columns});\n",
                event.to_lowercase(),
                self.resource,
                self.key
            )
        };
        let cascades = !columns(OnDelete::Cascade).is_empty();
        let lost = columns(OnDelete::SetNull);
        let delete = cascades.then(|| trigger("DELETE", "OLD TABLE AS gone", ""));
        let tables = "OLD TABLE AS gone NEW TABLE AS kept";
        let update = (!lost.is_empty()).then(|| trigger("UPDATE", tables, &lost));
        [delete, update].into_iter().flatten().collect()
    }

    fn create(&self) -> String {
        let keys: Vec<_> = self.key.split(", ").collect();
        let id = "\n    id uuid NOT NULL DEFAULT gen_random_uuid(),";
        let id = if keys.contains(&"id") { id } else { "" };
        let organization =
            "\n    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,";
        let organization = if keys.contains(&"organization_id") { organization } else { "" };
        format!(
            "CREATE TABLE {} ({id}{organization}{},
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY ({}){}\n);\n",
            base_name(self.name),
            self.columns,
            self.key,
            self.references.iter().map(Reference::sql).collect::<String>()
        )
    }
}
