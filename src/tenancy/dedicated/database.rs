//! One dedicated database: its pools, and the checks of its name, migrations and tenant isolation
//! that it must pass before it serves requests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use migration::Status;
use pg::{ConnectionPool, PoolState};
use tokio::sync::{Mutex, Notify};

use super::super::{
    Access, Finding, Severity,
    pools::{DatabaseOptions, SYSTEM_CONNECTIONS, migration_status, query_once},
    self_check::{Extent, self_check},
};
use crate::error::{Error, Result};

/// The idle time after which a connection is closed.
const IDLE: Duration = Duration::from_mins(1);

/// How long one failed check counts for other requests.
pub(super) const STALE: Duration = Duration::from_secs(1);

/// A dedicated database. Its pools open connections on demand and close idle ones.
#[derive(Debug)]
pub(super) struct DedicatedDatabase {
    pub(super) name: Arc<str>,
    pub(super) requests: ConnectionPool,
    pub(super) system: ConnectionPool,
    /// For directory sync and other work between this database and the control database.
    pub(super) upkeep: ConnectionPool,
    /// For checks in the role of requests.
    probe: ConnectionPool,
    /// The last check passed. Only one check runs at a time.
    is_usable: AtomicBool,
    /// The last failure of a check, and its time.
    checking: Mutex<Option<(Instant, Error)>>,
    /// When background work last failed to begin here; `None` if it succeeded.
    silent_since: parking_lot::Mutex<Option<Instant>>,
    /// Notified when a commit may have pending changes for the directory.
    pub(super) directory_changed: Notify,
    pub(super) rounds: SingleFlight,
}

impl DedicatedDatabase {
    /// Creates the pools; opens no connection.
    pub(super) fn new(name: &str, options: &DatabaseOptions) -> Result<Self> {
        Ok(Self {
            name: name.into(),
            requests: options.request_pool()?,
            system: options.system_pool("tenantry system", SYSTEM_CONNECTIONS)?,
            upkeep: options.system_pool("tenantry upkeep", 1)?,
            probe: options.background_pool("tenantry probe", 1)?,
            is_usable: AtomicBool::new(false),
            checking: Mutex::default(),
            silent_since: parking_lot::Mutex::default(),
            directory_changed: Notify::new(),
            rounds: SingleFlight::default(),
        })
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

    /// Checks the database regardless of earlier results. An unreachable database keeps its last
    /// result.
    pub(super) async fn check_again(&self) -> Result<()> {
        let mut faults = self.check_all(Extent::Quick).await?;
        faults.retain(|finding| finding.severity == Severity::Fault);
        self.is_usable.store(faults.is_empty(), Ordering::Release);
        faults.first().map_or(Ok(()), |fault| Err(Error::unavailable(fault.to_string())))
    }

    /// All findings about the database. A fault prevents its use.
    pub(super) async fn findings(&self, extent: Extent) -> Vec<Finding> {
        let unusable =
            |error: Error| vec![self.fault(format!("cannot be used: {}", error.cause()))];
        self.check_all(extent).await.unwrap_or_else(unusable)
    }

    async fn check_all(&self, extent: Extent) -> Result<Vec<Finding>> {
        match migration_status(&self.probe).await? {
            Status::Current | Status::Ahead(_) => {}
            status => return Ok(status.problem().map(|it| self.fault(it)).into_iter().collect()),
        }
        let sql = "SELECT app.database_name() AS name";
        let rows = query_once(&self.upkeep, Access::Read, sql, None).await?;
        let name: Option<String> =
            rows.first().map(|row| row.try_get("name")).transpose()?.flatten();
        if name.as_deref() != Some(&*self.name) {
            let name = name.map_or_else(|| "no name".to_owned(), |name| format!("the name {name}"));
            return Ok(vec![self.fault(format!("has {name}"))]);
        }
        let findings =
            self_check(&self.probe, &self.requests, &self.upkeep, extent).await?.into_iter();
        let named = findings.map(|finding| {
            let subject = format!("database {}: {}", self.name, finding.subject);
            Finding { subject, ..finding }
        });
        Ok(named.collect())
    }

    fn fault(&self, problem: String) -> Finding {
        Finding {
            severity: Severity::Fault,
            subject: format!("database {}", self.name),
            problem,
            remedy: "check DATABASES, and run tenantry migrate".to_owned(),
        }
    }

    /// Records whether background work could begin here.
    pub(super) fn answered(&self, answered: bool) {
        *self.silent_since.lock() = (!answered).then(Instant::now);
    }

    /// Whether background work failed to begin here less than `within` ago.
    pub(super) fn is_silent(&self, within: Duration) -> bool {
        self.silent_since.lock().is_some_and(|since| since.elapsed() < within)
    }

    pub(super) fn pools(&self) -> [PoolState; 3] {
        let pools =
            [("requests", &self.requests), ("system", &self.system), ("upkeep", &self.upkeep)];
        pools.map(|(name, pool)| pool.state(&format!("{} {name}", self.name)))
    }

    pub(super) fn close_idle(&self) {
        for pool in [&self.requests, &self.system, &self.upkeep, &self.probe] {
            pool.close_idle(IDLE);
        }
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
