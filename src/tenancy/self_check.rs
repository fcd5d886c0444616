//! The self-check: queries the system catalogs, as the app role, for faults in tenant isolation.
//!
//! `serve` refuses to start on a fault; `doctor` prints all findings. The settings of the server, the
//! database and the role do not affect the check: it reads those that matter first, and then sets
//! what it needs for its transaction.

use std::fmt;

use migration::{
    SYSTEM_ROLE,
    placement::SCHEMA_VERSION,
    roles::{APP_SETTINGS, CARRIER_PARAMETER},
};
use pg::{ConnectionPool, Parameters};
use sea_orm::Values;

use super::{Access, Transaction, dedicated::query_once};
use crate::error::Result;

const SQL: &str = include_str!("self_check.sql");

/// Tables with the same rows for all tenants, which need no row-level security.
const OPEN_TABLES: [&str; 4] =
    ["billing.features", "billing.plans", "billing.plan_features", "billing.plan_prices"];

/// Settings besides those of the role that would let every request fail or write unchecked.
const FURTHER_SETTINGS: [&str; 9] = [
    "row_security",
    "session_replication_role",
    "default_transaction_read_only",
    "app.current_org_id",
    "app.current_user_id",
    "app.current_role",
    "app.replicating",
    "app.moving",
    CARRIER_PARAMETER,
];

/// The values of settings; an unset one is empty.
const EFFECTIVE: &str =
    "SELECT pg_catalog.array_agg(coalesce(pg_catalog.current_setting(name, true), '')) AS settings
    FROM pg_catalog.unnest($1::pg_catalog.text[]) name";

/// Sets settings for the transaction.
const PIN: &str = "SELECT pg_catalog.set_config(name, value, true)
    FROM unnest($1::pg_catalog.text[], $2::pg_catalog.text[]) s (name, value)";

/// The settings of the check: how SQL is read and expressions are printed, and time to run. The
/// search path of the role makes the names in printed expressions the same everywhere.
const PINNED: [(&str, &str); 10] = [
    APP_SETTINGS[0],
    ("standard_conforming_strings", "on"),
    ("quote_all_identifiers", "off"),
    ("row_security", "on"),
    ("bytea_output", "hex"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("statement_timeout", "60s"),
    ("lock_timeout", "10s"),
];

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Tenants may be able to access each other's data. The server refuses to start.
    Fault,
    /// Performance, a missing additional safeguard, or a problem of a single organization.
    Warning,
}

/// A deviation from the expected state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The severity.
    pub severity: Severity,
    /// The subject, for example `table app.projects`.
    pub subject: String,
    /// The problem.
    pub problem: String,
    /// The statement or the command that fixes it.
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

/// Runs all checks. An empty list means that there are no findings.
///
/// # Errors
///
/// When the catalogue cannot be read.
pub(super) async fn self_check(
    app: &ConnectionPool,
    system: &ConnectionPool,
) -> Result<Vec<Finding>> {
    let mut findings = catalogue(app).await?;
    findings.extend(login_of_system(system).await);
    Ok(findings)
}

/// Checks that the catalogue has the features that the program declares.
pub(super) async fn check_features(app: &ConnectionPool, keys: &[&str]) -> Vec<Finding> {
    let sql = "SELECT key FROM unnest($1::text[]) WITH ORDINALITY k (key, n)
               WHERE NOT EXISTS (SELECT FROM billing.features f WHERE f.feature = key) ORDER BY n";
    let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
    let missing = query_once(app, Access::Read, sql, Some(Values(vec![keys.into()]))).await;
    let missing = missing
        .and_then(|rows| Ok(rows.iter().map(|row| row.try_get(0)).collect::<pg::Result<_>>()?));
    let missing: Vec<String> = match missing {
        Ok(missing) => missing,
        Err(error) => {
            return vec![Finding {
                severity: Severity::Fault,
                subject: "table billing.features".to_owned(),
                problem: format!("cannot be read: {}", error.cause()),
                remedy: "run tenantry migrate".to_owned(),
            }];
        }
    };
    let finding = |key: String| Finding {
        severity: Severity::Warning,
        subject: format!("feature {key}"),
        problem: "has no row in billing.features, so every plan denies it".to_owned(),
        remedy: format!("run tenantry feature add {key}"),
    };
    missing.into_iter().map(finding).collect()
}

/// Checks that background work can log in, and has its own role.
async fn login_of_system(system: &ConnectionPool) -> Option<Finding> {
    let asked = query_once(system, Access::Read, "SELECT current_user::text AS role", None).await;
    let role = asked.and_then(|rows| {
        let role = rows.first().map(|row| row.try_get::<_, String>("role")).transpose();
        Ok(role?.unwrap_or_default())
    });
    let problem = match role {
        Ok(role) if role == SYSTEM_ROLE => return None,
        Ok(role) => format!("is not the role of background work, which logs in as {role}"),
        Err(error) => format!("cannot log in: {}", error.cause()),
    };
    Some(Finding {
        severity: Severity::Fault,
        subject: format!("role {SYSTEM_ROLE}"),
        problem,
        remedy: "set SYSTEM_DATABASE_URL, or run tenantry migrate with the DATABASE_URL of servers"
            .to_owned(),
    })
}

async fn catalogue(connections: &ConnectionPool) -> Result<Vec<Finding>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let (names, wanted): (Vec<_>, Vec<_>) = APP_SETTINGS.into_iter().unzip();
    let read = texts(&[&names[..], &FURTHER_SETTINGS].concat());
    let parameters = Parameters::of(Some(Values(vec![read.clone().into()])))?;
    let (transaction, rows) =
        Transaction::begin(connections, Access::Read, None, EFFECTIVE, &parameters).await?;
    let effective = rows.first().map(|row| row.try_get::<_, Vec<String>>("settings"));
    let (pinned, values): (Vec<_>, Vec<_>) = PINNED.into_iter().unzip();
    let pinned = vec![texts(&pinned).into(), texts(&values).into()];
    transaction.query(PIN, Some(Values(pinned))).await?;
    let values = vec![
        texts(&migration::SCHEMAS).into(),
        texts(&OPEN_TABLES).into(),
        wanted[0].into(),
        texts(&names).into(),
        texts(&wanted).into(),
        SCHEMA_VERSION.into(),
        CARRIER_PARAMETER.into(),
        read.into(),
        effective.transpose()?.unwrap_or_default().into(),
    ];
    let rows = transaction.query(SQL, Some(Values(values))).await?.rows;
    transaction.release();
    let findings = rows.iter().map(|row| {
        let severity = match row.try_get("severity")? {
            "fault" => Severity::Fault,
            _ => Severity::Warning,
        };
        Ok(Finding {
            severity,
            subject: row.try_get("subject")?,
            problem: row.try_get("problem")?,
            remedy: row.try_get("remedy")?,
        })
    });
    Ok(findings.collect::<pg::Result<_>>()?)
}
