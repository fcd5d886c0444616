//! The dedicated databases of a server by name, where organizations were last seen, and the pools
//! with which work in dedicated databases reaches the control database.

use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc, time::Duration};

use entity::OrganizationId;
use lru::LruCache;
use parking_lot::Mutex;
use pg::{ConnectionPool, PoolState};
use tokio::sync::Notify;

use super::{
    super::{Extent, Finding, pools::DatabaseOptions},
    database::{DedicatedDatabase, STALE},
};
use crate::error::{Error, Result};

/// How long e-mail delivery skips a database that did not respond.
const SILENCE: Duration = Duration::from_secs(15);

/// The maximum number of connections of each of the pools between databases.
const CONTROL_CONNECTIONS: usize = 4;

/// The maximum number of organizations whose dedicated database is remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// The configured dedicated databases.
#[derive(Debug)]
pub struct DedicatedDatabases {
    by_name: BTreeMap<Arc<str>, Arc<DedicatedDatabase>>,
    /// Where organizations were last, for background work, which has no caller.
    last_seen: Mutex<LruCache<OrganizationId, Arc<str>>>,
    /// The pools of the control database for requests and for background work.
    pub(super) requests: ConnectionPool,
    pub(super) system: ConnectionPool,
    /// For queries to the control database by sessions in dedicated databases. A task that holds
    /// one of these connections must not wait for another connection.
    pub(super) control: ConnectionPool,
    /// The same for background work between databases, without a user.
    pub(super) upkeep: ConnectionPool,
    pub(super) users_changed: Notify,
}

impl DedicatedDatabases {
    /// Creates the pools; opens no connection. Returns `None` if none are configured. The control
    /// database has the pools `requests` and `system`.
    pub fn new(
        options: &DatabaseOptions,
        requests: &ConnectionPool,
        system: &ConnectionPool,
    ) -> Result<Option<Arc<Self>>> {
        if options.dedicated.is_empty() {
            return Ok(None);
        }
        let each = options.dedicated.iter().map(|(name, connect)| {
            let (connect, system, dedicated) = (connect.clone(), None, Vec::new());
            let options = DatabaseOptions { connect, system, dedicated, ..options.clone() };
            let database = DedicatedDatabase::new(name, &options)?;
            Ok((Arc::clone(&database.name), Arc::new(database)))
        });
        Ok(Some(Arc::new(Self {
            by_name: each.collect::<Result<_>>()?,
            last_seen: Mutex::new(LruCache::new(REMEMBERED)),
            requests: requests.clone(),
            system: system.clone(),
            control: options.background_pool("tenantry control", CONTROL_CONNECTIONS)?,
            upkeep: options.system_pool("tenantry upkeep", CONTROL_CONNECTIONS)?,
            users_changed: Notify::new(),
        })))
    }

    /// The error for an organization in a database that this server does not know.
    pub fn missing(name: &str) -> Error {
        Error::unavailable(format!(
            "an organization lives in the database {name}, which is missing in DATABASES"
        ))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<DedicatedDatabase>> {
        self.by_name.values()
    }

    /// The names of the databases.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_name.keys()
    }

    fn get(&self, name: &str) -> Result<&Arc<DedicatedDatabase>> {
        self.by_name.get(name).ok_or_else(|| Self::missing(name))
    }

    /// A database that has passed its check.
    pub(super) async fn database(&self, name: &str) -> Result<Arc<DedicatedDatabase>> {
        let database = self.get(name)?;
        database.check().await?;
        Ok(Arc::clone(database))
    }

    /// The same for background work, which skips a database that just did not respond.
    pub(super) async fn database_for_system(&self, name: &str) -> Result<Arc<DedicatedDatabase>> {
        let database = self.get(name)?;
        if database.is_silent(STALE) {
            return Err(Error::unavailable(format!("the database {name} does not respond")));
        }
        database.check().await.inspect_err(|_| database.answered(false))?;
        Ok(Arc::clone(database))
    }

    /// Remembers where an organization was found.
    pub(super) fn remember(&self, organization: OrganizationId, name: &Arc<str>) {
        self.last_seen.lock().put(organization, Arc::clone(name));
    }

    pub(super) fn forget(&self, organization: OrganizationId) {
        self.last_seen.lock().pop(&organization);
    }

    pub(super) fn guess(&self, organization: OrganizationId) -> Option<Arc<str>> {
        self.last_seen.lock().get(&organization).cloned()
    }

    /// Whether the organization was last seen in one of the databases.
    pub fn has_seen(&self, organization: OrganizationId) -> bool {
        self.guess(organization).is_some()
    }

    /// The databases that did not respond recently.
    pub fn silent(&self) -> Vec<String> {
        let silent = self.all().filter(|database| database.is_silent(SILENCE));
        silent.map(|database| database.name.to_string()).collect()
    }

    /// The state of all pools.
    pub fn pools(&self) -> Vec<PoolState> {
        let between = [self.control.state("control"), self.upkeep.state("upkeep")];
        between.into_iter().chain(self.all().flat_map(|database| database.pools())).collect()
    }

    /// The findings about all databases.
    pub async fn findings(&self, extent: Extent) -> Vec<Finding> {
        let each = self.all().map(|database| database.findings(extent));
        futures_util::future::join_all(each).await.concat()
    }
}

/// The error for a dedicated database that places an organization in another one, unlike the
/// control database.
pub(super) fn contradiction(name: &str, other: &str) -> Error {
    Error::unavailable(format!(
        "the database {name} places an organization in the database {other}, unlike the control database"
    ))
}
