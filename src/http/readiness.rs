//! Readiness: whether the database fits this program and separates tenants. A server that is not
//! ready at its start does not serve at all.

use std::time::{Duration, Instant};

use migration::Status;
use tokio::sync::Mutex;

use crate::{
    error::{Error, Result},
    tenancy::{Databases, Extent, Severity},
};

/// Anyone may probe often, so a result is reused for this long.
const FRESH: Duration = Duration::from_secs(2);

/// The self-check is the expensive part: its result is reused for this multiple of its duration.
const FRESH_BY_COST: u32 = 20;

/// A database that takes longer counts as unavailable, so that probes end.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The last results of the readiness check.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<Results>);

#[derive(Debug, Default)]
struct Results {
    all: Option<Problems>,
    self_check: Option<Problems>,
}

#[derive(Debug)]
struct Problems {
    fresh_until: Instant,
    lines: Vec<String>,
}

impl Readiness {
    /// Why the server is not ready. Empty if it is ready.
    pub(super) async fn problems(&self, databases: &Databases) -> Vec<String> {
        let mut results = self.0.lock().await;
        if let Some(lines) = fresh(results.all.as_ref()) {
            return lines;
        }
        let check = tokio::time::timeout(TIMEOUT, results.problems_of_running(databases)).await;
        let lines = check
            .unwrap_or_else(|_| vec!["the database at DATABASE_URL does not respond".to_owned()]);
        results.all = Some(Problems { fresh_until: Instant::now() + FRESH, lines: lines.clone() });
        lines
    }
}

impl Results {
    /// The same as [`problems`] for a running server. The database may be newer, because migrations
    /// keep the previous version working while servers are replaced.
    async fn problems_of_running(&mut self, databases: &Databases) -> Vec<String> {
        match databases.migration_status().await {
            Ok(Status::Current | Status::Ahead(_)) => self.unsafe_for_tenants(databases).await,
            status => check_status(status).err().into_iter().collect(),
        }
    }

    async fn unsafe_for_tenants(&mut self, databases: &Databases) -> Vec<String> {
        if let Some(lines) = fresh(self.self_check.as_ref()) {
            return lines;
        }
        let started = Instant::now();
        let lines = unsafe_for_tenants(databases).await;
        // A fault is not cached for long, because it may be fixed soon.
        let reuse = if lines.is_empty() { started.elapsed() * FRESH_BY_COST } else { FRESH };
        self.self_check =
            Some(Problems { fresh_until: Instant::now() + reuse, lines: lines.clone() });
        lines
    }
}

fn fresh(problems: Option<&Problems>) -> Option<Vec<String>> {
    let problems = problems.filter(|problems| Instant::now() < problems.fresh_until)?;
    Some(problems.lines.clone())
}

/// Why a server must not start with this database, one line each. Empty if it may start.
pub async fn problems(databases: &Databases) -> Vec<String> {
    match check_migrations(databases).await {
        Ok(()) => unsafe_for_tenants(databases).await,
        Err(problem) => vec![problem],
    }
}

async fn unsafe_for_tenants(databases: &Databases) -> Vec<String> {
    match databases.self_check(Extent::Quick).await {
        Err(error) => vec![database_problem(&error)],
        Ok(findings) => {
            let faults = findings.iter().filter(|finding| finding.severity == Severity::Fault);
            faults.map(ToString::to_string).collect()
        }
    }
}

/// Checks that the database has exactly the migrations and functions of this program.
///
/// # Errors
///
/// Says what is wrong and what to do.
pub async fn check_migrations(databases: &Databases) -> Result<(), String> {
    check_status(databases.migration_status().await)?;
    // Only at the start: a running server continues while the next version's functions are applied.
    let outdated =
        databases.outdated_functions().await.map_err(|error| database_problem(&error))?;
    if outdated.is_empty() {
        return Ok(());
    }
    let names = outdated.join(", ");
    Err(format!(
        "the functions {names} of the database differ from this version. Run `tenantry migrate`."
    ))
}

fn check_status(status: Result<Status>) -> Result<(), String> {
    match status {
        Ok(status) => status.problem().map_or(Ok(()), Err),
        Err(error) => Err(database_problem(&error)),
    }
}

/// Describes a database error with its cause, for operators only.
fn database_problem(error: &Error) -> String {
    let cause = error.cause();
    let migrated = ["migration.seaql_migrations", "migration.functions", "schema migration"];
    let is_missing = match error {
        Error::Internal(error) => error.downcast_ref().is_some_and(|error: &pg::Error| {
            error.has_code(&["42P01", "3F000"]) // undefined_table, invalid_schema_name
        }),
        _ => false,
    };
    if is_missing && migrated.iter().any(|name| cause.contains(name)) {
        return "the database is not migrated. Run `tenantry migrate`.".to_owned();
    }
    format!("the database at DATABASE_URL cannot be used: {cause}")
}
