//! Databases of organizations' own: the pools of each, opened on need and closed when idle, and
//! used only once it is known to be the one that is meant, to have every step, and to keep tenants
//! apart.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use migration::Status;
use sea_orm::Values;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{Mutex, Notify};
use tokio_postgres::Row;

use super::{
    Access, Finding, Severity, Transaction,
    connect::system_login,
    databases::{SYSTEM_CONNECTIONS, migration_status},
    driver::{Parameters, failed},
    pool::{ConnectionPool, DatabaseOptions, PATIENCE},
    self_check::self_check,
};
use crate::{
    error::{Error, Result},
    metrics::PoolState,
};

/// A connection that nobody has used for so long is closed, and how often that is looked at.
const IDLE: Duration = Duration::from_mins(1);
const SWEEP: Duration = Duration::from_secs(15);

/// For how long a failure counts for others.
pub(super) const STALE: Duration = Duration::from_secs(1);

/// One of them.
#[derive(Debug)]
pub(super) struct DedicatedDatabase {
    name: Arc<str>,
    requests: ConnectionPool,
    system: ConnectionPool,
    /// For what goes on between it and the control database.
    upkeep: ConnectionPool,
    /// For looking at it in the role of requests.
    probe: ConnectionPool,
    /// It was as it must be when somebody last looked, which one does at a time.
    is_usable: AtomicBool,
    /// What it was not, and when.
    checking: Mutex<Option<(Instant, Error)>>,
    /// The system could not begin there, the last time that it tried.
    silent_since: std::sync::Mutex<Option<Instant>>,
    /// Something may have been committed that the directory is to follow.
    pub(super) news: Notify,
    pub(super) rounds: SingleFlight,
}

impl DedicatedDatabase {
    fn new(name: &str, options: &DatabaseOptions) -> Result<Self> {
        let login = system_login(&options.connect);
        let pool = |login: &PgConnectOptions, of: &str, max_connections| {
            let connect = login.clone().application_name(of);
            DatabaseOptions { connect, max_connections, ..options.clone() }
        };
        let (app, most) = (&options.connect, options.max_connections);
        Ok(Self {
            name: name.into(),
            requests: ConnectionPool::new(&pool(app, "tenantry", most))?,
            system: ConnectionPool::with(
                &pool(&login, "tenantry system", most.min(SYSTEM_CONNECTIONS)),
                PATIENCE,
            )?,
            upkeep: ConnectionPool::with(&pool(&login, "tenantry upkeep", 1), PATIENCE)?,
            probe: ConnectionPool::with(&pool(app, "tenantry probe", 1), PATIENCE)?,
            is_usable: AtomicBool::new(false),
            checking: Mutex::default(),
            silent_since: std::sync::Mutex::default(),
            news: Notify::new(),
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

    /// Looks at it once, and again for as long as it is not as it must be.
    pub(super) async fn check(&self) -> Result<()> {
        if self.is_usable.load(Ordering::Acquire) {
            return Ok(());
        }
        // Large, and rare.
        Box::pin(async {
            let mut last = self.checking.lock().await;
            if self.is_usable.load(Ordering::Acquire) {
                return Ok(());
            }
            // Whoever has waited need not find out the same.
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

    /// Notes whether the system could begin there.
    pub(super) fn answered(&self, answered: bool) {
        *self.silent_since() = (!answered).then(Instant::now);
    }

    /// The system could not begin there, this short a while ago.
    pub(super) fn is_silent(&self, within: Duration) -> bool {
        self.silent_since().is_some_and(|since| since.elapsed() < within)
    }

    /// Looks at it, whatever was found before. One that cannot be reached is what it was.
    pub(super) async fn check_again(&self) -> Result<()> {
        let problems = self.problems().await?;
        self.is_usable.store(problems.is_empty(), Ordering::Release);
        match problems.first() {
            None => Ok(()),
            Some(problem) => Err(Error::unavailable(format!("{}: {problem}", self.name))),
        }
    }

    /// Why it must not be used.
    async fn problems(&self) -> Result<Vec<String>> {
        match migration_status(&self.probe).await? {
            Status::Current | Status::Ahead(_) => {}
            Status::Behind(count) => {
                return Ok(vec![format!(
                    "the database lacks {count} migrations: run tenantry migrate"
                )]);
            }
        }
        let name = self.ask(Access::Read, "SELECT app.database_name() AS name", None).await?;
        let name: Option<String> =
            name.first().map(|row| row.try_get("name")).transpose().map_err(failed)?.flatten();
        if name.as_deref() != Some(&*self.name) {
            let name = name.unwrap_or_else(|| "nothing".to_owned());
            return Ok(vec![format!("the database calls itself {name}: run tenantry migrate")]);
        }
        let faults = self_check(&self.probe, &self.upkeep).await?.into_iter();
        let faults = faults.filter(|finding| finding.severity == Severity::Fault);
        Ok(faults.map(|finding| finding.to_string()).collect())
    }

    /// Everything that is to be said about it; what makes it useless as a fault.
    pub(super) async fn findings(&self) -> Vec<Finding> {
        let fault = |problem| Finding {
            severity: Severity::Fault,
            subject: format!("database {}", self.name),
            problem,
            remedy: "see DATABASES, and run tenantry migrate".to_owned(),
        };
        let faults = match self.problems().await {
            Ok(problems) => problems,
            Err(error) => vec![format!("cannot be used: {}", error.cause())],
        };
        if !faults.is_empty() {
            return faults.into_iter().map(fault).collect();
        }
        let warnings = self_check(&self.probe, &self.upkeep).await.unwrap_or_default();
        let named = warnings.into_iter().map(|finding| {
            let subject = format!("database {}: {}", self.name, finding.subject);
            Finding { subject, ..finding }
        });
        named.collect()
    }

    /// Asks something of it, in a transaction of its own.
    pub(super) async fn ask(
        &self,
        access: Access,
        sql: &str,
        values: Option<Values>,
    ) -> Result<Vec<Row>> {
        ask(&self.upkeep, access, sql, values).await
    }

    /// For what goes on between it and the control database.
    pub(super) fn upkeep(&self) -> &ConnectionPool {
        &self.upkeep
    }

    fn pools(&self) -> [PoolState; 3] {
        let pools =
            [("requests", &self.requests), ("system", &self.system), ("upkeep", &self.upkeep)];
        pools.map(|(name, pool)| pool.state(&format!("{} {name}", self.name)))
    }
}

/// Rounds of the same work, one at a time: whoever wants one is served by any that begins after
/// they have asked.
#[derive(Debug, Default)]
pub(super) struct SingleFlight {
    begun: AtomicU64,
    /// The newest round that has succeeded.
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

/// Runs one statement in a transaction of its own.
pub(super) async fn ask(
    connections: &ConnectionPool,
    access: Access,
    sql: &str,
    values: Option<Values>,
) -> Result<Vec<Row>> {
    let parameters = Parameters::of(values)?;
    let (transaction, rows) =
        Transaction::begin(connections, access, None, sql, &parameters).await?;
    match access {
        Access::Read => transaction.release(),
        Access::Write => transaction.commit().await?,
    }
    Ok(rows)
}

/// All that are known, by name.
#[derive(Debug)]
pub(super) struct DedicatedDatabases(BTreeMap<Arc<str>, Arc<DedicatedDatabase>>);

impl DedicatedDatabases {
    /// No connection is made yet.
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
        Ok(Self(each.collect::<Result<_>>()?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<DedicatedDatabase>> {
        self.0.values()
    }

    pub(super) fn get(&self, name: &str) -> Result<&Arc<DedicatedDatabase>> {
        self.0.get(name).ok_or_else(|| {
            Error::unavailable(format!(
                "an organization lives in the database {name}, which DATABASES does not have"
            ))
        })
    }

    pub(super) fn pools(&self) -> impl Iterator<Item = PoolState> {
        self.all().flat_map(|dedicated| dedicated.pools())
    }

    /// Closes what is idle, for ever.
    pub(super) async fn close_idle(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
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
