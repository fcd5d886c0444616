//! Where an organization's rows are, as text that `app.placements` stores.

use std::{fmt, str::FromStr};

use migration::{TenantTable, placement::schema_of};
use uuid::Uuid;

use crate::config::is_database_name;

/// Where an organization lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// In the tables that organizations share.
    Shared,
    /// In a dedicated schema.
    Schema,
    /// In the shared tables of a dedicated database.
    Database(String),
    /// What a dedicated database stores for an organization that does not live there.
    Elsewhere,
}

impl Placement {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Shared => "shared".to_owned(),
            Self::Schema => "schema".to_owned(),
            Self::Database(name) => format!("database:{name}"),
            Self::Elsewhere => "remote".to_owned(),
        }
    }

    pub(super) fn from_name(name: &str) -> Self {
        match (name, name.strip_prefix("database:")) {
            (_, Some(database)) => Self::Database(database.to_owned()),
            ("schema", _) => Self::Schema,
            ("remote", _) => Self::Elsewhere,
            _ => Self::Shared,
        }
    }

    /// The name of the database, if it is not the control database.
    pub(super) fn database(&self) -> Option<&str> {
        match self {
            Self::Database(name) => Some(name),
            _ => None,
        }
    }

    /// Returns the organization's table in this placement, for a connection to its database.
    pub(super) fn table(&self, table: &TenantTable, organization: Uuid) -> String {
        self.table_named(&table.name, organization)
    }

    /// The same for the name of a shared table.
    pub(super) fn table_named(&self, name: &str, organization: Uuid) -> String {
        match (self, name.split_once('.')) {
            (Self::Schema, Some((_, table))) => format!("{}.{table}", schema_of(organization)),
            _ => name.to_owned(),
        }
    }
}

impl FromStr for Placement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Self::from_name(text) {
            Self::Database(name) if is_database_name(&name) => Ok(Self::Database(name)),
            Self::Schema => Ok(Self::Schema),
            Self::Shared if text == "shared" => Ok(Self::Shared),
            _ => Err("must be shared, schema or database:NAME".to_owned()),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => formatter.write_str("the shared tables"),
            Self::Schema => formatter.write_str("a dedicated schema"),
            Self::Database(name) => write!(formatter, "the database {name}"),
            Self::Elsewhere => formatter.write_str("another database"),
        }
    }
}
