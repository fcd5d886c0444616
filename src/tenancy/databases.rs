//! All databases of a server: the only holder of pools.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use entity::OrganizationId;
use pg::{ConnectionPool, PoolState};
use sea_orm::Values;

use super::{
    Access, ChangeFeed, Destination, Finding,
    dedicated::DedicatedDatabases,
    pools::{DatabaseOptions, Replica, SYSTEM_CONNECTIONS, migration_status, query_once},
    self_check::{DeclaredFeature, Extent, check_features, check_trial_plan, self_check},
    session_cache::{CachedContext, SessionCache},
};
use crate::{
    auth::Caller,
    error::{Error, Result},
};

/// The size of the session cache, unless it is set.
const SESSION_CACHE_SIZE: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// The pools of all databases; cheap to clone.
#[derive(Clone)]
pub struct Databases {
    /// For requests.
    pub(super) requests: ConnectionPool,
    /// The contexts of the callers' last sessions.
    pub(super) session_cache: Arc<SessionCache>,
    /// For background work, which must neither wait for requests nor delay them.
    pub(super) system: ConnectionPool,
    /// The change feed.
    change_feed: ChangeFeed,
    acquire_timeout: Duration,
    /// For health checks, which must not wait behind requests.
    probe: ConnectionPool,
    replica: Option<Arc<Replica>>,
    dedicated: Option<Arc<DedicatedDatabases>>,
}

impl std::fmt::Debug for Databases {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Databases").finish_non_exhaustive()
    }
}

impl Databases {
    /// Creates the pools of the control database, the replica and the dedicated databases.
    ///
    /// # Errors
    ///
    /// When a pool cannot be configured; no connection is opened.
    pub fn shared(options: &DatabaseOptions) -> Result<Self> {
        let requests = options.request_pool()?;
        let system = options.system_pool("tenantry system", SYSTEM_CONNECTIONS)?;
        let replica = options.replica.as_ref().map(|connect| {
            Replica::new(&DatabaseOptions { connect: connect.clone(), ..options.clone() })
        });
        let listen = options.listen.as_ref().unwrap_or(&options.connect).clone();
        Ok(Self {
            session_cache: Arc::new(SessionCache::new(SESSION_CACHE_SIZE)),
            change_feed: ChangeFeed::new(system.clone(), listen),
            acquire_timeout: options.acquire_timeout,
            probe: options.background_pool("tenantry probe", 1)?,
            replica: replica.transpose()?.map(Arc::new),
            dedicated: DedicatedDatabases::new(options, &requests, &system)?,
            requests,
            system,
        })
    }

    /// Sets the number of callers whose context is cached. Call it before any session is opened.
    #[must_use]
    pub fn with_session_cache(self, size: NonZeroUsize) -> Self {
        Self { session_cache: Arc::new(SessionCache::new(size)), ..self }
    }

    /// The maximum number of connections for requests.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        self.requests.most()
    }

    /// How long a request waits for a connection.
    #[must_use]
    pub fn acquire_timeout(&self) -> Duration {
        self.acquire_timeout
    }

    /// The state of all pools.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolState> {
        let pools =
            [("requests", &self.requests), ("system", &self.system), ("probe", &self.probe)];
        let replica = self.replica.as_ref().map(|replica| ("replica", replica.connections()));
        let pools = pools.into_iter().chain(replica).map(|(name, pool)| pool.state(name));
        pools.chain(self.dedicated.iter().flat_map(|dedicated| dedicated.pools())).collect()
    }

    /// The change feed.
    #[must_use]
    pub fn change_feed(&self) -> &ChangeFeed {
        &self.change_feed
    }

    /// The context of this caller's last session at this destination, if it is cached.
    #[must_use]
    pub fn cached_context(
        &self,
        caller: &Caller,
        destination: &Destination,
    ) -> Option<Arc<CachedContext>> {
        self.session_cache.get(caller, destination)
    }

    /// The dedicated databases, if any are configured.
    pub(super) fn dedicated_databases(&self) -> Option<&Arc<DedicatedDatabases>> {
        self.dedicated.as_ref()
    }

    /// The dedicated databases, for an organization in the one with this name.
    pub(super) fn dedicated(&self, name: &str) -> Result<&Arc<DedicatedDatabases>> {
        self.dedicated.as_ref().ok_or_else(|| DedicatedDatabases::missing(name))
    }

    /// Reports that a user has changed. Call it after the commit.
    pub(super) fn user_changed(&self) {
        if let Some(dedicated) = &self.dedicated {
            dedicated.user_changed();
        }
    }

    /// Whether the organization was last seen in a dedicated database.
    #[must_use]
    pub fn is_in_dedicated_database(&self, organization: OrganizationId) -> bool {
        self.dedicated.as_ref().is_some_and(|dedicated| dedicated.has_seen(organization))
    }

    /// The databases that did not respond recently, whose background work is postponed.
    #[must_use]
    pub fn silent_databases(&self) -> Vec<String> {
        self.dedicated.as_ref().map(|dedicated| dedicated.silent()).unwrap_or_default()
    }

    /// Keeps the control database and the dedicated databases in sync. Returns at once if there are
    /// no dedicated databases, and otherwise never.
    pub async fn keep_synced(&self) {
        if let Some(dedicated) = &self.dedicated {
            dedicated.keep_synced().await;
        }
    }

    /// The replica, if one is configured.
    pub(super) fn replica(&self) -> Option<&Replica> {
        self.replica.as_deref()
    }

    /// Tracks the primary's WAL position for the replica. Returns at once without a replica, and
    /// otherwise never.
    pub async fn follow_primary(&self) {
        if let Some(replica) = &self.replica {
            replica.follow(&self.system).await;
        }
    }

    /// Why the replica cannot be used; `None` if it can, or if there is none.
    pub async fn replica_problem(&self) -> Option<String> {
        self.replica.as_ref()?.problem(&self.probe).await
    }

    /// The migration steps that the database has, as visible to the app role.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached or was never migrated.
    pub async fn migration_status(&self) -> Result<migration::Status> {
        migration_status(&self.probe).await
    }

    /// The findings about all dedicated databases.
    pub async fn findings_of_databases(&self, extent: Extent) -> Vec<Finding> {
        match &self.dedicated {
            Some(dedicated) => dedicated.findings(extent).await,
            None => Vec::new(),
        }
    }

    /// The queues of background work: name, number of entries, and age of the oldest in seconds.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    pub async fn backlog(&self) -> Result<Vec<(&'static str, i64, i64)>> {
        let sql = "SELECT emails, seats, stripe_events,
                coalesce(extract(epoch FROM now() - oldest_email), 0)::bigint AS email_age,
                coalesce(extract(epoch FROM now() - oldest_seats), 0)::bigint AS seats_age,
                coalesce(extract(epoch FROM now() - oldest_stripe_event), 0)::bigint AS stripe_event_age
            FROM app.backlog()";
        let rows = query_once(&self.system, Access::Read, sql, None).await?;
        let row = rows.first().ok_or_else(|| Error::internal("app.backlog returned no row"))?;
        let number = |column| row.try_get(column);
        Ok(vec![
            ("mail", number("emails")?, number("email_age")?),
            ("stripe_seats", number("seats")?, number("seats_age")?),
            ("stripe_events", number("stripe_events")?, number("stripe_event_age")?),
        ])
    }

    /// The functions whose text in the database differs from this program's.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached or was never migrated.
    pub async fn outdated_functions(&self) -> Result<Vec<String>> {
        let (names, texts) = migration::functions::texts();
        let values = Some(Values(vec![names.into(), texts.into()]));
        let rows =
            query_once(&self.probe, Access::Read, migration::functions::OUTDATED, values).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<pg::Result<_>>()?)
    }

    /// Runs the self-check as the app role.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    pub async fn self_check(&self, extent: Extent) -> Result<Vec<Finding>> {
        self_check(&self.probe, &self.requests, &self.system, extent).await
    }

    /// The declared features that the catalogue lacks, or has of another kind, as warnings.
    pub async fn check_features(&self, declared: &[DeclaredFeature]) -> Vec<Finding> {
        check_features(&self.probe, declared).await
    }

    /// The problem of the plan that new organizations try, if there is one.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    pub async fn check_trial_plan(&self, plan: &str) -> Result<Option<Finding>> {
        check_trial_plan(&self.probe, plan).await
    }
}
