//! Where organizations live: the only holder of pools.

use std::{sync::Arc, time::Duration};

use sea_orm::Values;
use tokio::sync::Notify;
use tokio_postgres::Row;

use super::{
    Access, ChangeFeed, Finding,
    connect::system_login,
    dedicated::{DedicatedDatabase, DedicatedDatabases, STALE, ask},
    driver::failed,
    placement::PlacementCache,
    pool::{ConnectionPool, DatabaseOptions, PATIENCE},
    replica::Replica,
    self_check::self_check,
    session_cache::SessionCache,
};
use crate::{
    error::{Error, Result},
    metrics::PoolState,
};

/// The most connections for work without a person.
pub(super) const SYSTEM_CONNECTIONS: usize = 3;

/// For how long mail leaves a database alone that did not answer.
const SILENCE: Duration = Duration::from_secs(15);

/// The most connections for asking on behalf of others.
const CONTROL_CONNECTIONS: usize = 4;

/// Knows the database of every organization; cheap to clone.
#[derive(Clone)]
pub struct Databases {
    shared: ConnectionPool,
    placement_cache: Arc<PlacementCache>,
    session_cache: Arc<SessionCache>,
    /// For work without a person, which must neither wait for requests nor crowd them out.
    system: ConnectionPool,
    /// Who tells of changes, and hears of them.
    change_feed: ChangeFeed,
    acquire_timeout: Duration,
    /// For looking at the database: an answer about its health must not wait behind requests.
    probe: ConnectionPool,
    replica: Option<Arc<Replica>>,
    dedicated_databases: Arc<DedicatedDatabases>,
    /// For what is asked of the control database on behalf of somebody who is in another. Nobody
    /// waits for a connection with one of these in hand.
    control: ConnectionPool,
    /// The same for work between databases, which has no user.
    upkeep: ConnectionPool,
    users: Arc<Notify>,
}

impl std::fmt::Debug for Databases {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Databases").finish_non_exhaustive()
    }
}

impl Databases {
    /// Everybody in one database, in the shared tables or in schemas of their own.
    ///
    /// # Errors
    ///
    /// When the pool cannot be set up; no connection is made yet.
    pub fn shared(options: &DatabaseOptions) -> Result<Self> {
        let pool = |name, max_connections| {
            let connect = options.connect.clone().application_name(name);
            DatabaseOptions { connect, max_connections, ..options.clone() }
        };
        let login = options.system.clone().unwrap_or_else(|| system_login(&options.connect));
        let without_user = |name, most: usize| {
            let max_connections = options.max_connections.min(most);
            let connect = login.clone().application_name(name);
            let options = DatabaseOptions { connect, max_connections, ..options.clone() };
            ConnectionPool::with(&options, PATIENCE)
        };
        let system = without_user("tenantry system", SYSTEM_CONNECTIONS)?;
        let replica = options.replica.as_ref().map(|connect| {
            let connect = connect.clone().application_name("tenantry");
            Replica::new(&DatabaseOptions { connect, ..options.clone() }).map(Arc::new)
        });
        let listen = options.listen.as_ref().unwrap_or(&options.connect).clone();
        Ok(Self {
            shared: ConnectionPool::new(&pool("tenantry", options.max_connections))?,
            placement_cache: Arc::new(PlacementCache::new()),
            session_cache: Arc::new(SessionCache::new()),
            change_feed: ChangeFeed::new(system.clone(), listen),
            system,
            acquire_timeout: options.acquire_timeout,
            probe: ConnectionPool::with(&pool("tenantry probe", 1), PATIENCE)?,
            replica: replica.transpose()?,
            dedicated_databases: Arc::new(DedicatedDatabases::new(options)?),
            control: ConnectionPool::with(
                &pool("tenantry control", options.max_connections.min(CONTROL_CONNECTIONS)),
                PATIENCE,
            )?,
            upkeep: without_user("tenantry upkeep", CONTROL_CONNECTIONS)?,
            users: Arc::default(),
        })
    }

    /// The most connections for requests.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        self.shared.most()
    }

    /// How long a request waits for a connection.
    #[must_use]
    pub fn acquire_timeout(&self) -> Duration {
        self.acquire_timeout
    }

    /// The pools, for operators.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolState> {
        let pools = [("requests", &self.shared), ("system", &self.system), ("probe", &self.probe)];
        let replica = self.replica.as_ref().map(|replica| ("replica", replica.connections()));
        let between = [("control", &self.control), ("upkeep", &self.upkeep)];
        let between = between.into_iter().filter(|_| !self.dedicated_databases.is_empty());
        let pools = pools.into_iter().chain(replica).chain(between);
        pools.map(|(name, pool)| pool.state(name)).chain(self.dedicated_databases.pools()).collect()
    }

    /// What is told of changes.
    #[must_use]
    pub fn change_feed(&self) -> &ChangeFeed {
        &self.change_feed
    }

    /// Where requests begin.
    pub(super) fn requests(&self) -> &ConnectionPool {
        &self.shared
    }

    /// Which organizations are known to live elsewhere than in the shared tables.
    pub(super) fn placement_cache(&self) -> &PlacementCache {
        &self.placement_cache
    }

    /// What openings said last.
    pub(super) fn session_cache(&self) -> &SessionCache {
        &self.session_cache
    }

    /// Where work without a person begins.
    pub(super) fn system(&self) -> &ConnectionPool {
        &self.system
    }

    /// Where a request that is in another database asks the one that knows all organizations.
    pub(super) fn control(&self) -> &ConnectionPool {
        &self.control
    }

    /// Where work between databases asks the one that knows all organizations.
    pub(super) fn upkeep(&self) -> &ConnectionPool {
        &self.upkeep
    }

    /// The databases of organizations' own.
    pub(super) fn dedicated_databases(&self) -> &DedicatedDatabases {
        &self.dedicated_databases
    }

    /// Asks something of the control database, in a transaction of its own.
    pub(super) async fn ask_control(
        &self,
        access: Access,
        sql: &str,
        values: Option<Values>,
    ) -> Result<Vec<Row>> {
        ask(&self.upkeep, access, sql, values).await
    }

    /// Told when a person has changed.
    pub(super) fn users(&self) -> &Notify {
        &self.users
    }

    /// One of them, fit to be used.
    pub(super) async fn database(&self, name: &str) -> Result<Arc<DedicatedDatabase>> {
        let database = self.dedicated_databases.get(name)?;
        database.check().await?;
        Ok(Arc::clone(database))
    }

    /// The same for work without a person, which leaves one alone that did not answer just now.
    pub(super) async fn database_for_system(&self, name: &str) -> Result<Arc<DedicatedDatabase>> {
        let database = self.dedicated_databases.get(name)?;
        if database.is_silent(STALE) {
            return Err(Error::unavailable(format!("the database {name} did not answer")));
        }
        let checked = database.check().await;
        if checked.is_err() {
            database.answered(false);
        }
        checked?;
        Ok(Arc::clone(database))
    }

    /// The databases whose work without a person can wait, because they did not answer a moment
    /// ago.
    #[must_use]
    pub fn silent_databases(&self) -> Vec<String> {
        let silent = self.dedicated_databases.all().filter(|database| database.is_silent(SILENCE));
        silent.map(|database| database.name().to_string()).collect()
    }

    /// Where queries that need not be the freshest begin.
    pub(super) fn replica(&self) -> Option<&Replica> {
        self.replica.as_deref()
    }

    /// Keeps the replica informed, for ever, of where the primary is; ends at once without a
    /// replica.
    pub async fn follow_primary(&self) {
        if let Some(replica) = &self.replica {
            replica.follow(&self.system).await;
        }
    }

    /// Why the replica, if there is one, cannot be used.
    pub async fn replica_problem(&self) -> Option<String> {
        self.replica.as_ref()?.problem(&self.probe).await
    }

    /// Which migration steps the database has, as far as the app role can see.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached, or was never migrated.
    pub async fn migration_status(&self) -> Result<migration::Status> {
        migration_status(&self.probe).await
    }

    /// What is to be said about the databases of organizations' own.
    pub async fn findings_of_databases(&self) -> Vec<Finding> {
        let each = self.dedicated_databases.all().map(|database| database.findings());
        futures_util::future::join_all(each).await.concat()
    }

    /// What waits to be done in the background: its name, how many, and for how many seconds the
    /// oldest does.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    pub async fn backlog(&self) -> Result<Vec<(&'static str, i64, i64)>> {
        let sql = "SELECT letters, stripe_events,
                coalesce(extract(epoch FROM now() - oldest_letter), 0)::bigint AS letter_age,
                coalesce(extract(epoch FROM now() - oldest_stripe_event), 0)::bigint AS stripe_event_age
            FROM app.backlog()";
        let rows = ask(&self.system, Access::Read, sql, None).await?;
        let row = rows.first().ok_or_else(|| Error::internal("the backlog answered nothing"))?;
        let number = |column| row.try_get(column).map_err(failed);
        Ok(vec![
            ("mail", number("letters")?, number("letter_age")?),
            ("stripe_events", number("stripe_events")?, number("stripe_event_age")?),
        ])
    }

    /// The functions whose text in the database is not the one that this program knows.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached, or was never migrated.
    pub async fn outdated_functions(&self) -> Result<Vec<String>> {
        let (names, texts) = migration::functions::texts();
        let values = Some(Values(vec![names.into(), texts.into()]));
        let rows = ask(&self.probe, Access::Read, migration::functions::OUTDATED, values).await?;
        Ok(rows.iter().map(|row| row.try_get(0).map_err(failed)).collect::<Result<_, _>>()?)
    }

    /// The findings of the self-check, as the app role itself sees the database.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    pub async fn self_check(&self) -> Result<Vec<Finding>> {
        self_check(&self.probe, &self.system).await
    }
}

/// Which migration steps a database has, as far as the app role can see.
pub(super) async fn migration_status(connections: &ConnectionPool) -> Result<migration::Status> {
    let rows =
        ask(connections, Access::Read, "SELECT version FROM migration.seaql_migrations", None)
            .await?;
    let applied = rows.iter().map(|row| row.try_get(0).map_err(failed));
    Ok(migration::status(&applied.collect::<Result<Vec<String>, _>>()?))
}
