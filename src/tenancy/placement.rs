//! Placements: which tables hold an organization's rows. A server's cached placement is only a
//! guess. The statement that opens a session checks it, and a wrong guess opens nothing.

use std::{borrow::Cow, sync::Arc};

use entity::OrganizationId;
use migration::placement::{SCHEMA_VERSION, includes, schema_of};
use pg::SearchPath;

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
    Schema(SearchPath),
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
            "schema" if version.is_some_and(|version| includes(version, &SCHEMA_VERSION)) => {
                Ok(Self::Schema(search_path(organization)))
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

    /// The search path of transactions, if there is a dedicated schema.
    pub(super) fn search_path(&self) -> Option<&SearchPath> {
        match self {
            Self::Shared | Self::Database(_) => None,
            Self::Schema(search_path) => Some(search_path),
        }
    }
}

/// The search path that makes a dedicated schema's tables visible. It leaves out shared schemas
/// with tables of organizations only, so that a table missing here is not taken from there.
fn search_path(organization: OrganizationId) -> SearchPath {
    SearchPath::new(&format!("{}, auth, billing, pg_temp", schema_of(organization.0)))
}
