//! Pools and checks of the dedicated databases. Pools open on demand and close when idle. A
//! database serves requests only after its name, its migrations and its tenant isolation have been
//! checked.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use entity::OrganizationId;
use lru::LruCache;
use migration::Status;
use pg::{ConnectOptions, ConnectionPool, PoolState, Row};
use sea_orm::Values;
use tokio::sync::{Mutex, Notify};

use super::{
    Access, Finding, Severity,
    database_options::{DatabaseOptions, SYSTEM_CONNECTIONS, system_login},
    placement::Placement,
    pool_query::{migration_status, query_once},
    self_check::{Extent, self_check},
};
use crate::error::{Error, Result};

/// The idle time after which a connection is closed, and the interval of that check.
const IDLE: Duration = Duration::from_mins(1);
const CHECK_IDLE: Duration = Duration::from_secs(15);

/// How long one failed check counts for other requests.
pub(super) const STALE: Duration = Duration::from_secs(1);

/// A dedicated database.
#[derive(Debug)]
pub(super) struct DedicatedDatabase {
    name: Arc<str>,
    requests: ConnectionPool,
    system: ConnectionPool,
    /// For directory sync and other work between this database and the control database.
    upkeep: ConnectionPool,
    /// For checks in the role of requests.
    probe: ConnectionPool,
    /// The last check passed. Only one check runs at a time.
    is_usable: AtomicBool,
    /// The last failure of a check, and its time.
    checking: Mutex<Option<(Instant, Error)>>,
    /// When background work last failed to begin here; `None` if it succeeded.
    silent_since: std::sync::Mutex<Option<Instant>>,
    /// Notified when a commit may have pending changes for the directory.
    pub(super) directory_changed: Notify,
    pub(super) rounds: SingleFlight,
}

impl DedicatedDatabase {
    fn new(name: &str, options: &DatabaseOptions) -> Result<Self> {
        let login = system_login(&options.connect);
        let pool = |login: &ConnectOptions, of: &str, max_connections| {
            let connect = login.clone().with("application_name", of);
            DatabaseOptions { connect, max_connections, ..options.clone() }
        };
        let (app, most) = (&options.connect, options.max_connections);
        Ok(Self {
            name: name.into(),
            requests: pool(app, "tenantry", most).request_pool()?,
            system: pool(&login, "tenantry system", most.min(SYSTEM_CONNECTIONS))
                .background_pool()?,
            upkeep: pool(&login, "tenantry upkeep", 1).background_pool()?,
            probe: pool(app, "tenantry probe", 1).background_pool()?,
            is_usable: AtomicBool::new(false),
            checking: Mutex::default(),
            silent_since: std::sync::Mutex::default(),
            directory_changed: Notify::new(),
            rounds: SingleFlight::default(),
        })
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn requests(&self) -> &ConnectionPool {
        &self.requests
    }

    pub(super) fn system(&self) -> &ConnectionPool {
        &self.system
    }

    /// Checks the database, unless a check has passed already.
    pub(super) async fn check(&self) -> Result<()> {
        if self.is_usable.load(Ordering::Acquire) {
            return Ok(());
        }
        // Boxed: large, and rarely needed.
        Box::pin(async {
            let mut last = self.checking.lock().await;
            if self.is_usable.load(Ordering::Acquire) {
                return Ok(());
            }
            // A recent failure also answers the requests that waited for its check.
            if let Some((_, error)) = last.as_ref().filter(|(at, _)| at.elapsed() < STALE) {
                return Err(error.clone());
            }
            let checked = self.check_again().await;
            *last = checked.as_ref().err().map(|error| (Instant::now(), error.clone()));
            checked
        })
        .await
    }

    fn silent_since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.silent_since.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Records whether background work could begin here.
    pub(super) fn answered(&self, answered: bool) {
        *self.silent_since() = (!answered).then(Instant::now);
    }

    /// Whether background work failed to begin here less than `within` ago.
    pub(super) fn is_silent(&self, within: Duration) -> bool {
        self.silent_since().is_some_and(|since| since.elapsed() < within)
    }

    /// Checks the database regardless of earlier results. An unreachable database keeps its last
    /// result.
    pub(super) async fn check_again(&self) -> Result<()> {
        let problems = self.problems().await?;
        self.is_usable.store(problems.is_empty(), Ordering::Release);
        match problems.first() {
            None => Ok(()),
            Some(problem) => Err(Error::unavailable(format!("{}: {problem}", self.name))),
        }
    }

    /// The reasons why the database must not be used.
    async fn problems(&self) -> Result<Vec<String>> {
        match migration_status(&self.probe).await? {
            Status::Current | Status::Ahead(_) => {}
            status => return Ok(status.problem().into_iter().collect()),
        }
        let name =
            self.query_once(Access::Read, "SELECT app.database_name() AS name", None).await?;
        let name: Option<String> =
            name.first().map(|row| row.try_get("name")).transpose()?.flatten();
        if name.as_deref() != Some(&*self.name) {
            let name = name.map_or_else(|| "no name".to_owned(), |name| format!("the name {name}"));
            return Ok(vec![format!("the database has {name}: run tenantry migrate")]);
        }
        let faults = self_check(&self.probe, &self.upkeep, Extent::Quick).await?.into_iter();
        let faults = faults.filter(|finding| finding.severity == Severity::Fault);
        Ok(faults.map(|finding| finding.to_string()).collect())
    }

    /// All findings about the database. Those that prevent its use are faults.
    pub(super) async fn findings(&self) -> Vec<Finding> {
        let fault = |problem| Finding {
            severity: Severity::Fault,
            subject: format!("database {}", self.name),
            problem,
            remedy: "check DATABASES, and run tenantry migrate".to_owned(),
        };
        let faults = match self.problems().await {
            Ok(problems) => problems,
            Err(error) => vec![format!("cannot be used: {}", error.cause())],
        };
        if !faults.is_empty() {
            return faults.into_iter().map(fault).collect();
        }
        let warnings = self_check(&self.probe, &self.upkeep, Extent::Complete).await;
        let warnings = warnings.unwrap_or_default();
        let named = warnings.into_iter().map(|finding| {
            let subject = format!("database {}: {}", self.name, finding.subject);
            Finding { subject, ..finding }
        });
        named.collect()
    }

    /// Runs one statement in a transaction on the upkeep pool.
    pub(super) async fn query_once(
        &self,
        access: Access,
        sql: &str,
        values: Option<Values>,
    ) -> Result<Vec<Row>> {
        query_once(&self.upkeep, access, sql, values).await
    }

    /// The pool for work between this database and the control database.
    pub(super) fn upkeep(&self) -> &ConnectionPool {
        &self.upkeep
    }

    fn pools(&self) -> [PoolState; 3] {
        let pools =
            [("requests", &self.requests), ("system", &self.system), ("upkeep", &self.upkeep)];
        pools.map(|(name, pool)| pool.state(&format!("{} {name}", self.name)))
    }
}

/// Runs of the same work, one at a time. A caller is served by any run that starts after its call.
#[derive(Debug, Default)]
pub(super) struct SingleFlight {
    begun: AtomicU64,
    /// The newest run that succeeded.
    done: Mutex<u64>,
}

impl SingleFlight {
    pub(super) async fn join(&self, work: impl Future<Output = Result<()>>) -> Result<()> {
        let asked = self.begun.load(Ordering::Acquire);
        let mut done = self.done.lock().await;
        if *done > asked {
            return Ok(());
        }
        let round = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        work.await?;
        *done = round;
        Ok(())
    }
}

/// The maximum number of organizations whose dedicated database is remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// The configured dedicated databases, by name.
#[derive(Debug)]
pub(super) struct DedicatedDatabases {
    by_name: BTreeMap<Arc<str>, Arc<DedicatedDatabase>>,
    /// Where organizations were last, for background work, which has no caller.
    last_seen: std::sync::Mutex<LruCache<OrganizationId, Arc<str>>>,
}

impl DedicatedDatabases {
    /// Creates the pools; opens no connection.
    pub(super) fn new(options: &DatabaseOptions) -> Result<Self> {
        let each = options.dedicated.iter().map(|(name, connect)| {
            let options = DatabaseOptions {
                connect: connect.clone(),
                system: None,
                listen: None,
                replica: None,
                dedicated: Vec::new(),
                ..options.clone()
            };
            let dedicated = DedicatedDatabase::new(name, &options)?;
            Ok((Arc::clone(&dedicated.name), Arc::new(dedicated)))
        });
        let last_seen = std::sync::Mutex::new(LruCache::new(REMEMBERED));
        Ok(Self { by_name: each.collect::<Result<_>>()?, last_seen })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<DedicatedDatabase>> {
        self.by_name.values()
    }

    fn last_seen(&self) -> std::sync::MutexGuard<'_, LruCache<OrganizationId, Arc<str>>> {
        self.last_seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Remembers where an organization was found.
    pub(super) fn remember(&self, organization: OrganizationId, placement: &Placement) {
        match placement {
            Placement::Database(name) => {
                self.last_seen().put(organization, Arc::clone(name));
            }
            Placement::Shared | Placement::Schema(_) => {
                self.last_seen().pop(&organization);
            }
        }
    }

    /// Where to look for an organization first.
    pub(super) fn guess(&self, organization: OrganizationId) -> Placement {
        if self.is_empty() {
            return Placement::Shared;
        }
        let name = self.last_seen().get(&organization).cloned();
        name.map_or(Placement::Shared, Placement::Database)
    }

    pub(super) fn get(&self, name: &str) -> Result<&Arc<DedicatedDatabase>> {
        self.by_name.get(name).ok_or_else(|| {
            Error::unavailable(format!(
                "an organization lives in the database {name}, which is missing in DATABASES"
            ))
        })
    }

    pub(super) fn pools(&self) -> impl Iterator<Item = PoolState> {
        self.all().flat_map(|dedicated| dedicated.pools())
    }

    /// Closes idle connections periodically; never returns.
    pub(super) async fn close_idle(&self) {
        loop {
            tokio::time::sleep(CHECK_IDLE).await;
            for dedicated in self.all() {
                for pool in
                    [&dedicated.requests, &dedicated.system, &dedicated.upkeep, &dedicated.probe]
                {
                    pool.close_idle(IDLE);
                }
            }
        }
    }
}
