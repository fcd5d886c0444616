//! Placements: which tables hold an organization's rows. A server's cached placement is only a
//! guess. The statement that opens a session checks it, and a wrong guess opens nothing.

use std::{borrow::Cow, sync::Arc};

use entity::OrganizationId;
use migration::placement::{SCHEMA_VERSION, schema_of};

use crate::error::{Error, Result};

/// The prefix of placements in dedicated databases.
const DATABASE: &str = "database:";

/// The placement that a dedicated database reports for organizations outside it. The control
/// database has the details.
pub(super) const ELSEWHERE: &str = "remote";

/// Where an organization's rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// In the shared tables.
    Shared,
    /// In a dedicated schema.
    Schema(Schema),
    /// In the shared tables of the dedicated database with this name.
    Database(Arc<str>),
}

impl Placement {
    /// Parses the placement that a database function returned, with the newest migration step of a
    /// dedicated schema.
    pub(super) fn parse(
        placement: &str,
        version: Option<&str>,
        organization: OrganizationId,
    ) -> Result<Self> {
        match placement {
            "shared" => Ok(Self::Shared),
            "schema" if version.is_some_and(|version| version >= SCHEMA_VERSION) => {
                Ok(Self::Schema(Schema::of(organization)))
            }
            "schema" => Err(Error::unavailable(format!(
                "the schema of the organization {} lacks migrations: run tenantry migrate",
                organization.0
            ))),
            placement => match placement.strip_prefix(DATABASE) {
                Some(name) => Ok(Self::Database(name.into())),
                None => Err(Error::internal(format!(
                    "the organization has the unknown placement {placement}"
                ))),
            },
        }
    }

    /// The name in database functions.
    pub(super) fn name(&self) -> Cow<'static, str> {
        match self {
            Self::Shared => "shared".into(),
            Self::Schema(_) => "schema".into(),
            Self::Database(name) => format!("{DATABASE}{name}").into(),
        }
    }

    /// Replaces a dedicated database by the shared tables, where no such organization is found.
    pub(super) fn unless_dedicated_database(self) -> Self {
        if matches!(self, Self::Database(_)) { Self::Shared } else { self }
    }

    /// The dedicated schema, if there is one.
    pub(super) fn schema(&self) -> Option<&Schema> {
        match self {
            Self::Shared | Self::Database(_) => None,
            Self::Schema(schema) => Some(schema),
        }
    }
}

/// A dedicated schema; its name needs no quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schema(Arc<str>);

impl Schema {
    fn of(organization: OrganizationId) -> Self {
        Self(schema_of(organization.0).into())
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// The statement that makes the schema's tables visible. It leaves out shared schemas with
    /// tables of organizations only, so that a table missing here is not taken from there.
    pub(super) fn search_path(&self) -> String {
        format!("SET LOCAL search_path TO {}, auth, billing, pg_temp", self.0)
    }
}
