//! All databases of a server: the only holder of pools.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use entity::OrganizationId;
use pg::{ConnectionPool, PoolState, Row};
use sea_orm::Values;
use tokio::sync::Notify;

use super::{
    Access, ChangeFeed, Destination, Finding,
    database_options::{DatabaseOptions, SYSTEM_CONNECTIONS, system_login},
    dedicated::{DedicatedDatabase, DedicatedDatabases, STALE},
    placement::Placement,
    pool_query::{migration_status, query_once},
    replica::Replica,
    self_check::{DeclaredFeature, Extent, check_features, check_trial_plan, self_check},
    session_cache::{CachedContext, SessionCache},
};
use crate::{
    auth::Caller,
    error::{Error, Result},
};

/// How long e-mail delivery skips a database that did not respond.
const SILENCE: Duration = Duration::from_secs(15);

/// The maximum number of connections to the control database for sessions in dedicated databases.
const CONTROL_CONNECTIONS: usize = 4;

/// The size of the session cache, unless it is set.
const SESSION_CACHE_SIZE: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// The pools of all databases; cheap to clone.
#[derive(Clone)]
pub struct Databases {
    shared: ConnectionPool,
    session_cache: Arc<SessionCache>,
    /// For background work, which must neither wait for requests nor delay them.
    system: ConnectionPool,
    /// The change feed.
    change_feed: ChangeFeed,
    acquire_timeout: Duration,
    /// For health checks, which must not wait behind requests.
    probe: ConnectionPool,
    replica: Option<Arc<Replica>>,
    dedicated_databases: Arc<DedicatedDatabases>,
    /// For queries to the control database by sessions in dedicated databases. A task that holds
    /// one of these connections must not wait for another connection.
    control: ConnectionPool,
    /// The same for background work between databases, without a user.
    upkeep: ConnectionPool,
    users_changed: Arc<Notify>,
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
        let pool = |name, max_connections| {
            let connect = options.connect.clone().with("application_name", name);
            DatabaseOptions { connect, max_connections, ..options.clone() }
        };
        let login = options.system.clone().unwrap_or_else(|| system_login(&options.connect));
        let without_user = |name, most: usize| {
            let max_connections = options.max_connections.min(most);
            let connect = login.clone().with("application_name", name);
            DatabaseOptions { connect, max_connections, ..options.clone() }.background_pool()
        };
        let system = without_user("tenantry system", SYSTEM_CONNECTIONS)?;
        let replica = options.replica.as_ref().map(|connect| {
            let connect = connect.clone().with("application_name", "tenantry");
            Replica::new(&DatabaseOptions { connect, ..options.clone() }).map(Arc::new)
        });
        let listen = options.listen.as_ref().unwrap_or(&options.connect).clone();
        Ok(Self {
            shared: pool("tenantry", options.max_connections).request_pool()?,
            session_cache: Arc::new(SessionCache::new(SESSION_CACHE_SIZE)),
            change_feed: ChangeFeed::new(system.clone(), listen),
            system,
            acquire_timeout: options.acquire_timeout,
            probe: pool("tenantry probe", 1).background_pool()?,
            replica: replica.transpose()?,
            dedicated_databases: Arc::new(DedicatedDatabases::new(options)?),
            control: pool("tenantry control", options.max_connections.min(CONTROL_CONNECTIONS))
                .background_pool()?,
            upkeep: without_user("tenantry upkeep", CONTROL_CONNECTIONS)?,
            users_changed: Arc::default(),
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
        self.shared.most()
    }

    /// How long a request waits for a connection.
    #[must_use]
    pub fn acquire_timeout(&self) -> Duration {
        self.acquire_timeout
    }

    /// The state of all pools.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolState> {
        let pools = [("requests", &self.shared), ("system", &self.system), ("probe", &self.probe)];
        let replica = self.replica.as_ref().map(|replica| ("replica", replica.connections()));
        let between = [("control", &self.control), ("upkeep", &self.upkeep)];
        let between = between.into_iter().filter(|_| !self.dedicated_databases.is_empty());
        let pools = pools.into_iter().chain(replica).chain(between);
        pools.map(|(name, pool)| pool.state(name)).chain(self.dedicated_databases.pools()).collect()
    }

    /// The change feed.
    #[must_use]
    pub fn change_feed(&self) -> &ChangeFeed {
        &self.change_feed
    }

    /// The pool of requests.
    pub(super) fn requests(&self) -> &ConnectionPool {
        &self.shared
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

    /// The session cache.
    pub(super) fn session_cache(&self) -> &SessionCache {
        &self.session_cache
    }

    /// The pool of background work.
    pub(super) fn system(&self) -> &ConnectionPool {
        &self.system
    }

    /// The pool with which sessions in dedicated databases query the control database.
    pub(super) fn control(&self) -> &ConnectionPool {
        &self.control
    }

    /// The pool with which work between databases queries the control database.
    pub(super) fn upkeep(&self) -> &ConnectionPool {
        &self.upkeep
    }

    /// The dedicated databases.
    pub(super) fn dedicated_databases(&self) -> &DedicatedDatabases {
        &self.dedicated_databases
    }

    /// Runs one statement in the control database, in a separate transaction.
    pub(super) async fn ask_control(
        &self,
        access: Access,
        sql: &str,
        values: Option<Values>,
    ) -> Result<Vec<Row>> {
        query_once(&self.upkeep, access, sql, values).await
    }

    /// Notified when a user has changed.
    pub(super) fn users_changed(&self) -> &Notify {
        &self.users_changed
    }

    /// A dedicated database that has passed its check.
    pub(super) async fn database(&self, name: &str) -> Result<Arc<DedicatedDatabase>> {
        let database = self.dedicated_databases.get(name)?;
        database.check().await?;
        Ok(Arc::clone(database))
    }

    /// The same for background work, which skips a database that just did not respond.
    pub(super) async fn database_for_system(&self, name: &str) -> Result<Arc<DedicatedDatabase>> {
        let database = self.dedicated_databases.get(name)?;
        if database.is_silent(STALE) {
            return Err(Error::unavailable(format!("the database {name} does not respond")));
        }
        let checked = database.check().await;
        if checked.is_err() {
            database.answered(false);
        }
        checked?;
        Ok(Arc::clone(database))
    }

    /// Whether the organization was last seen in a dedicated database.
    #[must_use]
    pub fn is_in_dedicated_database(&self, organization: OrganizationId) -> bool {
        matches!(self.dedicated_databases.guess(organization), Placement::Database(_))
    }

    /// The databases that did not respond recently, whose background work is postponed.
    #[must_use]
    pub fn silent_databases(&self) -> Vec<String> {
        let silent = self.dedicated_databases.all().filter(|database| database.is_silent(SILENCE));
        silent.map(|database| database.name().to_string()).collect()
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
    pub async fn findings_of_databases(&self) -> Vec<Finding> {
        let each = self.dedicated_databases.all().map(|database| database.findings());
        futures_util::future::join_all(each).await.concat()
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
        self_check(&self.probe, &self.system, extent).await
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
