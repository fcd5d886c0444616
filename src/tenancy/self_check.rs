//! The self-check: what stands between tenants, looked at in PostgreSQL's catalogue from the app role itself.
//!
//! `serve` refuses to start on a fault; `doctor` prints everything.
#![expect(clippy::disallowed_types, reason = "the check looks at the database, not at tenants")]

use std::fmt;

use migration::roles::APP_SETTINGS;
use sqlx::{PgConnection, Row};

const SQL: &str = include_str!("self_check.sql");

/// Tables that are the same for everybody, and need no row-level security.
const OPEN_TABLES: [&str; 2] = ["billing.plans", "billing.plan_features"];

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Tenants may reach each other: the server does not start.
    Fault,
    /// Slow, or a line of defence less.
    Warning,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, for example `table app.projects`.
    pub subject: String,
    /// What is wrong with it.
    pub problem: String,
    /// The statement, or the step, that mends it.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Fault => "fault",
            Severity::Warning => "warning",
        };
        let Self { subject, problem, remedy, .. } = self;
        write!(formatter, "{severity}: {subject} {problem}; remedy: {remedy}")
    }
}

/// Looks at everything; an empty list means all is well.
///
/// # Errors
///
/// When the catalogue cannot be read.
pub async fn self_check(connection: &mut PgConnection) -> Result<Vec<Finding>, sqlx::Error> {
    let [(_, search_path), ..] = APP_SETTINGS;
    let rows = sqlx::query(SQL)
        .bind(migration::SCHEMAS.as_slice())
        .bind(OPEN_TABLES.as_slice())
        .bind(search_path)
        .bind(APP_SETTINGS.map(|(name, _)| name).as_slice())
        .bind(APP_SETTINGS.map(|(_, value)| value).as_slice())
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            let severity = match row.try_get::<&str, _>("severity")? {
                "fault" => Severity::Fault,
                _ => Severity::Warning,
            };
            Ok(Finding {
                severity,
                subject: row.try_get("subject")?,
                problem: row.try_get("problem")?,
                remedy: row.try_get("remedy")?,
            })
        })
        .collect()
}
