//! Homes: in which tables the rows of an organization are. What a server remembers of it is a
//! guess, which the database checks in the statement that opens a session; a wrong one opens
//! nothing.

use std::{
    borrow::Cow,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use entity::OrganizationId;
use lru::LruCache;
use migration::placement::{SCHEMA_VERSION, schema_of};

use crate::error::{Error, Result};

/// What the names of homes in databases begin with.
const DATABASE: &str = "database:";

/// What a database of organizations' own says of those that do not live there: the control database
/// knows more.
pub(super) const ELSEWHERE: &str = "elsewhere";

/// Organizations outside of the shared tables that are remembered.
const KNOWN: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// Where an organization lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// In the tables that all share.
    Shared,
    /// In a schema of its own.
    Schema(Schema),
    /// In the shared tables of the database with this name.
    Database(Arc<str>),
}

impl Placement {
    /// What a function of the database told of an organization: the name of its home, and the
    /// newest step that this has.
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
                "the schema of the organization {} lacks migration steps: run tenantry migrate",
                organization.0
            ))),
            placement => match placement.strip_prefix(DATABASE) {
                Some(name) => Ok(Self::Database(name.into())),
                None => Err(Error::internal(format!("the organization lives in {placement}"))),
            },
        }
    }

    /// As functions of the database name it.
    pub(super) fn name(&self) -> Cow<'static, str> {
        match self {
            Self::Shared => "shared".into(),
            Self::Schema(_) => "schema".into(),
            Self::Database(name) => format!("{DATABASE}{name}").into(),
        }
    }

    /// The same, or the home that no organization has of which only another database can tell.
    pub(super) fn unless_dedicated_database(self) -> Self {
        if matches!(self, Self::Database(_)) { Self::Shared } else { self }
    }

    /// Its schema, if it is one of its own.
    pub(super) fn schema(&self) -> Option<&Schema> {
        match self {
            Self::Shared | Self::Database(_) => None,
            Self::Schema(schema) => Some(schema),
        }
    }
}

/// The schema of one organization; its name needs no quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schema(Arc<str>);

impl Schema {
    fn of(organization: OrganizationId) -> Self {
        Self(schema_of(organization.0).into())
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// The statement after which tables without a schema are the organization's own. Without the
    /// shared schemas that hold nothing but tables of organizations: what is missing in its own
    /// must not be looked for there.
    pub(super) fn search_path(&self) -> String {
        format!("SET LOCAL search_path TO {}, auth, billing, pg_temp", self.0)
    }
}

/// Which organizations live outside of the shared tables, by the slug or the claim that led to
/// them.
#[derive(Debug)]
pub(super) struct PlacementCache(Mutex<LruCache<String, Placement>>);

impl PlacementCache {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(KNOWN)))
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<String, Placement>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn guess(&self, name: Option<&str>) -> Placement {
        name.and_then(|name| self.lock().get(name).cloned()).unwrap_or(Placement::Shared)
    }

    pub(super) fn learn(&self, name: &str, placement: &Placement) {
        match placement {
            Placement::Shared => drop(self.lock().pop(name)),
            Placement::Schema(_) | Placement::Database(_) => {
                drop(self.lock().put(name.to_owned(), placement.clone()));
            }
        }
    }
}
