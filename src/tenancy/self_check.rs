//! The self-check: queries the system catalogs, as the app role, for faults in tenant isolation.
//!
//! `serve` refuses to start on a fault; `doctor` prints all findings. The settings of the server,
//! the database and the role do not affect the check: it reads those that matter first, and then
//! sets what it needs for its transaction.

use std::{fmt, time::Duration};

use entity::{FeatureKind, FeaturePeriod};
use migration::{APP_SETTINGS, CARRIER_PARAMETER, SYSTEM_ROLE, placement::SCHEMA_VERSION};
use pg::{ConnectionPool, Parameters};
use sea_orm::{ActiveEnum, Values};

use super::{Access, Transaction, pools::query_once};
use crate::error::{Error, Result};

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

/// Which copies of rows the self-check compares with their sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Copies of suspended users and of organizations with a placement, as far as a difference
    /// could open a session wrongly.
    Quick,
    /// All, which reads all users and organizations.
    Complete,
}

/// How long a complete check may take: longer than its `statement_timeout`.
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(65);

/// Runs all checks. An empty list means that there are no findings. `requests` is a pool of the app
/// role that waits longer for an answer, for the complete check.
///
/// # Errors
///
/// When the catalogue cannot be read.
pub(super) async fn self_check(
    probe: &ConnectionPool,
    requests: &ConnectionPool,
    system: &ConnectionPool,
    extent: Extent,
) -> Result<Vec<Finding>> {
    let mut findings = match extent {
        Extent::Quick => catalogue(probe, extent).await?,
        Extent::Complete => {
            let complete = tokio::time::timeout(COMPLETE_TIMEOUT, catalogue(requests, extent));
            match complete.await.unwrap_or(Err(Error::Timeout)) {
                Err(Error::Timeout) => {
                    let mut findings = catalogue(probe, Extent::Quick).await?;
                    findings.push(not_compared());
                    findings
                }
                complete => complete?,
            }
        }
    };
    findings.extend(login_of_system(probe, system).await);
    Ok(findings)
}

fn not_compared() -> Finding {
    Finding {
        severity: Severity::Warning,
        subject: "tables auth.identities and app.organization_lookup".to_owned(),
        problem: "could not be compared completely with the rows that they copy within 60 s"
            .to_owned(),
        remedy: "run tenantry doctor again while the database is less busy".to_owned(),
    }
}

/// A feature that the program declares: its key, its kind, and the period of a meter.
pub type DeclaredFeature = (&'static str, FeatureKind, Option<FeaturePeriod>);

/// The declared features of which the catalogue has no row, or one of another kind or period, with
/// the kind and the period of that row.
const DIFFERENT_FEATURES: &str =
    "SELECT n::int8 AS n, concat_ws(' by ', f.kind::text, f.period::text) AS stored
    FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY d (key, kind, period, n)
        LEFT JOIN billing.features f ON f.feature = d.key
    WHERE (d.kind, d.period) IS DISTINCT FROM (f.kind::text, coalesce(f.period::text, '')) ORDER BY n";

/// Checks that the catalogue has the features that the program declares.
pub(super) async fn check_features(
    app: &ConnectionPool,
    declared: &[DeclaredFeature],
) -> Vec<Finding> {
    different_features(app, declared).await.unwrap_or_else(|error| {
        vec![Finding {
            severity: Severity::Fault,
            subject: "table billing.features".to_owned(),
            problem: format!("cannot be read: {}", error.cause()),
            remedy: "fix the error, or run tenantry migrate if the table is missing".to_owned(),
        }]
    })
}

async fn different_features(
    app: &ConnectionPool,
    declared: &[DeclaredFeature],
) -> Result<Vec<Finding>> {
    let column = |text: fn(&DeclaredFeature) -> String| {
        sea_orm::Value::from(declared.iter().map(text).collect::<Vec<_>>())
    };
    let period = |(_, _, period): &DeclaredFeature| {
        period.as_ref().map(ActiveEnum::to_value).unwrap_or_default()
    };
    let values = vec![
        column(|(key, ..)| (*key).to_owned()),
        column(|(_, kind, _)| kind.to_value()),
        column(period),
    ];
    let rows = query_once(app, Access::Read, DIFFERENT_FEATURES, Some(Values(values))).await?;
    let mut findings = Vec::new();
    for row in &rows {
        let (n, stored): (i64, String) = (row.try_get("n")?, row.try_get("stored")?);
        let declared = usize::try_from(n - 1).ok().and_then(|index| declared.get(index));
        findings.extend(declared.map(|feature| finding_of_feature(feature, &stored)));
    }
    Ok(findings)
}

/// `stored` is empty without a row.
fn finding_of_feature((key, kind, period): &DeclaredFeature, stored: &str) -> Finding {
    let kind = kind.to_value();
    let mut add = format!("run tenantry feature add {key} --kind {kind}");
    if let Some(period) = period {
        add = format!("{add} --period {}", period.to_value().replace('_', "-"));
    }
    let (problem, remedy) = if stored.is_empty() {
        ("has no row in billing.features, so every plan denies it".to_owned(), add)
    } else {
        let by = period.map(|period| format!(" by {}", period.to_value())).unwrap_or_default();
        let remedy = "delete its rows in billing.plan_features and billing.features";
        (format!("is a {stored}, but must be a {kind}{by}"), format!("{remedy}, then {add}"))
    };
    Finding { severity: Severity::Warning, subject: format!("feature {key}"), problem, remedy }
}

/// Why no trial of the plan `$1` can start. Null: it can.
const TRIAL_PROBLEM: &str =
    "SELECT CASE WHEN p.plan IS NULL THEN 'unknown' WHEN p.is_default THEN 'default'
        WHEN p.archived_at IS NOT NULL THEN 'archived' END AS problem
    FROM (SELECT $1::text AS plan) wanted LEFT JOIN billing.plans p USING (plan)";

/// Checks that new organizations can try the plan that `TRIAL_PLAN` names. Plans are never deleted,
/// so a name without a plan is a mistake in the setting. A plan that was archived, or became the
/// default, since the setting was made must not keep servers from starting: organizations begin
/// without a trial then.
pub(super) async fn check_trial_plan(app: &ConnectionPool, plan: &str) -> Result<Option<Finding>> {
    let values = Some(Values(vec![plan.into()]));
    let rows = query_once(app, Access::Read, TRIAL_PROBLEM, values).await?;
    let problem = rows.first().map(|row| row.try_get::<_, Option<String>>("problem"));
    let (severity, problem) = match problem.transpose()?.flatten().as_deref() {
        None => return Ok(None),
        Some("unknown") => (Severity::Fault, "which does not exist"),
        Some("default") => (Severity::Warning, "the default plan, so no trial starts"),
        Some(_) => (Severity::Warning, "which is archived, so no trial starts"),
    };
    Ok(Some(Finding {
        severity,
        subject: "setting TRIAL_PLAN".to_owned(),
        problem: format!("names the plan {plan}, {problem}"),
        remedy: "set it to a plan of tenantry plan list, or unset it".to_owned(),
    }))
}

/// Checks that background work can log in, and has its own role.
async fn login_of_system(app: &ConnectionPool, system: &ConnectionPool) -> Option<Finding> {
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
    let sql = "SELECT FROM pg_catalog.pg_roles WHERE rolname = $1 AND NOT rolcanlogin";
    let without_login =
        query_once(app, Access::Read, sql, Some(Values(vec![SYSTEM_ROLE.into()]))).await;
    let remedy = if without_login.is_ok_and(|rows| !rows.is_empty()) {
        format!("ALTER ROLE {SYSTEM_ROLE} LOGIN")
    } else {
        "set SYSTEM_DATABASE_URL, or run tenantry migrate with the DATABASE_URL of servers"
            .to_owned()
    };
    let subject = format!("role {SYSTEM_ROLE}");
    Some(Finding { severity: Severity::Fault, subject, problem, remedy })
}

async fn catalogue(connections: &ConnectionPool, extent: Extent) -> Result<Vec<Finding>> {
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
        SCHEMA_VERSION.as_str().into(),
        CARRIER_PARAMETER.into(),
        read.into(),
        effective.transpose()?.unwrap_or_default().into(),
        (extent == Extent::Complete).into(),
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
