//! Whether the process lives (`/healthz`), and whether it can do its work (`/readyz`).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use migration::Status;
use serde_json::json;
use tokio::sync::Mutex;

use super::Server;
use crate::{
    error::Result,
    tenancy::{Databases, Severity},
};

/// Probes come often, and anybody may send them: an answer serves for a while, and longer where it
/// was costly.
const FRESH: Duration = Duration::from_secs(2);
const FRESH_BY_COST: u32 = 20;

/// A database that takes longer to be looked at is as good as none, and whoever probes does not
/// wait for ever.
const LOOK: Duration = Duration::from_secs(3);

/// The last answer about readiness.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<Option<Answer>>);

#[derive(Debug)]
struct Answer {
    fresh_until: Instant,
    problems: Vec<String>,
}

impl Readiness {
    /// Why the server is not ready; empty when it is.
    async fn problems(&self, databases: &Databases) -> Vec<String> {
        let mut last = self.0.lock().await;
        match &*last {
            Some(answer) if Instant::now() < answer.fresh_until => answer.problems.clone(),
            _ => {
                let begun = Instant::now();
                let looking = tokio::time::timeout(LOOK, problems_of_running(databases)).await;
                let problems = looking
                    .unwrap_or_else(|_| vec!["the database at DATABASE_URL is silent".to_owned()]);
                // What has gone wrong may be mended soon.
                let cost = if problems.is_empty() { begun.elapsed() } else { Duration::ZERO };
                let fresh_until = Instant::now() + FRESH.max(cost * FRESH_BY_COST);
                *last = Some(Answer { fresh_until, problems: problems.clone() });
                problems
            }
        }
    }
}

/// Why a server must not begin to serve from this database, one line each; empty when it may.
pub async fn problems(databases: &Databases) -> Vec<String> {
    match check_migrations(databases).await {
        Ok(()) => unsafe_for_tenants(databases).await,
        Err(problem) => vec![problem],
    }
}

/// The same for a server that runs: while its successors are on their way the database is ahead of
/// it, and steps are made so that it works on.
async fn problems_of_running(databases: &Databases) -> Vec<String> {
    match databases.migration_status().await {
        Ok(Status::Current | Status::Ahead(_)) => unsafe_for_tenants(databases).await,
        status => told(status).err().into_iter().collect(),
    }
}

async fn unsafe_for_tenants(databases: &Databases) -> Vec<String> {
    match databases.self_check().await {
        Err(error) => vec![database_problem(&error)],
        Ok(findings) => {
            let faults = findings.iter().filter(|finding| finding.severity == Severity::Fault);
            faults.map(ToString::to_string).collect()
        }
    }
}

/// Whether the database has the steps and the functions that this program knows, and no others.
///
/// # Errors
///
/// What is wrong, and what to do.
pub async fn check_migrations(databases: &Databases) -> Result<(), String> {
    told(databases.migration_status().await)?;
    // A server that runs already keeps serving while its successor's functions are applied.
    let outdated =
        databases.outdated_functions().await.map_err(|error| database_problem(&error))?;
    if outdated.is_empty() {
        return Ok(());
    }
    let names = outdated.join(", ");
    Err(format!("the database has another text of the functions {names}: run tenantry migrate"))
}

fn told(status: Result<Status>) -> Result<(), String> {
    match status {
        Ok(Status::Current) => Ok(()),
        Ok(Status::Behind(count)) => {
            Err(format!("the database lacks {count} migrations: run tenantry migrate"))
        }
        Ok(Status::Ahead(_)) => {
            Err("the database was migrated by a newer tenantry: run that version".to_owned())
        }
        Err(error) => Err(database_problem(&error)),
    }
}

/// Names the cause: this is for operators, not for clients.
fn database_problem(error: &crate::error::Error) -> String {
    let cause = error.cause();
    let migrated = ["migration.seaql_migrations", "migration.functions", "schema migration"];
    if migrated.iter().any(|name| cause.contains(name)) {
        return "the database was never migrated: run tenantry migrate".to_owned();
    }
    format!("the database at DATABASE_URL cannot be used: {cause}")
}

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(server): State<Arc<Server>>) -> Response {
    if *server.stop.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false }))).into_response();
    }
    let problems = server.readiness.problems(&server.service.databases).await;
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !problems.is_empty() {
        tracing::warn!(?problems, "not ready");
    }
    // Which problem it is concerns the operator, who reads the log.
    (status, Json(json!({ "ready": problems.is_empty() }))).into_response()
}
