//! The three database roles: `tenantry_owner` owns everything and cannot log in, `tenantry_app`
//! answers requests, and `tenantry_system` does background work. Neither of the login roles has the
//! rights of the other.
//!
//! Roles belong to the whole cluster, so migrations of two databases may change them at the same
//! time; a run that is disturbed tries again.

use std::time::Duration;

use pg::Client;

use crate::{APP_ROLE, Error, Passwords, SYSTEM_ROLE};

/// The parameter that carries the session of a transaction, where the owner may be granted SET on
/// it: a text that every role can read, and that otherwise only a superuser can set.
pub const CARRIER_PARAMETER: &str = "backtrace_functions";

/// The settings of the two login roles: `(setting, value as PostgreSQL stores it)`.
pub const APP_SETTINGS: [(&str, &str); 8] = [
    ("search_path", "app, auth, billing, audit, pg_temp"),
    ("jit", "off"),
    ("TimeZone", "UTC"),
    // Every statement reads a tenant's range of an index, with any parameters: a plan for
    // these parameters would be the same.
    ("plan_cache_mode", "force_generic_plan"),
    ("statement_timeout", "10s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "15s"),
    ("client_connection_check_interval", "500ms"),
];

const TRIES: u32 = 20;

/// Creates missing roles, sets the settings and passwords of the login roles, and refuses roles
/// that could bypass row-level security.
pub(crate) async fn ensure(connection: &mut Client, passwords: Passwords<'_>) -> Result<(), Error> {
    for attempt in 1.. {
        let transaction = connection.begin().await?;
        let outcome = match apply(&transaction, passwords).await {
            Ok(()) => transaction.commit().await.map_err(Error::from),
            Err(error) => {
                transaction.roll_back().await?;
                Err(error)
            }
        };
        match outcome {
            Err(Error::Database(error)) if attempt < TRIES && is_disturbed(&error) => {
                tokio::time::sleep(Duration::from_millis(20 * u64::from(attempt))).await;
            }
            outcome => return outcome,
        }
    }
    unreachable!("the loop ends by returning")
}

/// The statements that create missing roles.
const CREATE: &str =
    "SELECT format('CREATE ROLE %I %s', r.name, r.options)
     FROM (VALUES ('tenantry_owner', 'NOLOGIN'), ('tenantry_app', 'LOGIN NOINHERIT'), ('tenantry_system', 'LOGIN NOINHERIT')) r (name, options)
     WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r.name)";

/// The statements that set what differs: each write is a row that two migrations could contend for.
const CONFIGURE: &str =
    "SELECT format('ALTER ROLE %I SET %I TO %s', r.rolname, s.name, CASE s.name WHEN 'search_path' THEN s.value ELSE quote_literal(s.value) END)
     FROM pg_roles r CROSS JOIN unnest($1::text[], $2::text[]) s (name, value)
     WHERE r.rolname IN ('tenantry_app', 'tenantry_system') AND concat(s.name, '=', s.value) <> ALL (coalesce(r.rolconfig, '{}'))";

/// The statements that grant what the owner and the login roles need: the right to carry sessions,
/// where this login may grant it, and the right of this login to act as the owner by SET ROLE.
const GRANT: &str =
    "SELECT format('GRANT SET ON PARAMETER %I TO tenantry_owner', $1)
     WHERE has_parameter_privilege($1, 'SET WITH GRANT OPTION') AND NOT has_parameter_privilege('tenantry_owner', $1, 'SET')
     -- From PostgreSQL 16 on a member need not have the right to SET ROLE.
     UNION ALL SELECT 'GRANT tenantry_owner TO CURRENT_USER' WHERE NOT pg_has_role('tenantry_owner',
         CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
     UNION ALL SELECT format('GRANT CONNECT, CREATE ON DATABASE %I TO tenantry_owner', current_database())
     UNION ALL SELECT format('GRANT CONNECT ON DATABASE %I TO tenantry_app, tenantry_system', current_database())
     UNION ALL SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database())";

async fn apply(connection: &Client, passwords: Passwords<'_>) -> Result<(), Error> {
    let statements = connection.query(CREATE, &[]).await?;
    execute_all(connection, statements).await?;
    let (names, values): (Vec<_>, Vec<_>) = APP_SETTINGS.into_iter().unzip();
    let statements = connection.query(CONFIGURE, &[&names, &values]).await?;
    execute_all(connection, statements).await?;
    for (role, password) in [(APP_ROLE, passwords.app), (SYSTEM_ROLE, passwords.system)] {
        let set = "SELECT format('ALTER ROLE %I PASSWORD %L', $1, $2) WHERE $2 IS NOT NULL";
        let statements = connection.query(set, &[&role, &password]).await?;
        execute_all(connection, statements).await?;
    }
    let powerful: Option<String> = connection
        .query_opt(
            "SELECT rolname::text FROM pg_roles
         WHERE (rolsuper OR rolbypassrls OR rolcreaterole OR rolreplication)
           AND rolname IN ('tenantry_app', 'tenantry_owner', 'tenantry_system')",
            &[],
        )
        .await?;
    if let Some(role) = powerful {
        return Err(Error::PowerfulRole(role));
    }
    let statements = connection.query(GRANT, &[&CARRIER_PARAMETER]).await?;
    execute_all(connection, statements).await
}

/// Executes statements that PostgreSQL has built, quoting included.
async fn execute_all(connection: &Client, statements: Vec<String>) -> Result<(), Error> {
    for statement in statements {
        connection.batch(&statement).await?;
    }
    Ok(())
}

/// Whether another migration changed the same role or database at the same time.
fn is_disturbed(error: &pg::Error) -> bool {
    error.has_code(&["23505", "42710", "40001", "40P01"])
        || error.to_string().contains("concurrently updated")
}
