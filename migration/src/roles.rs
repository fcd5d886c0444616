//! The three database roles: `tenantry_owner` owns everything and cannot log in, `tenantry_app`
//! answers requests and may do little, `tenantry_system` works without a user and may do other
//! things.
//!
//! Roles belong to the whole cluster, so migrations of two databases can meet here; whatever they
//! disturb in each other is tried again.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::{APP_ROLE, Error, OWNER_ROLE, Passwords, SYSTEM_ROLE};

/// The parameter that carries the session of a transaction, where the owner may be granted SET on
/// it: a text that every role can read, and that only a superuser can set otherwise.
pub const CARRIER_PARAMETER: &str = "backtrace_functions";

/// What every connection of the two login roles starts with: `(setting, value as PostgreSQL stores
/// it)`.
pub const APP_SETTINGS: [(&str, &str); 8] = [
    ("search_path", "app, auth, billing, audit, pg_temp"),
    ("jit", "off"),
    ("TimeZone", "UTC"),
    // Every statement reads a tenant's range of an index, whatever its parameters are: planning
    // anew each time finds the same.
    ("plan_cache_mode", "force_generic_plan"),
    ("statement_timeout", "10s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "15s"),
    ("client_connection_check_interval", "500ms"),
];

const TRIES: u32 = 20;

/// Creates the roles that are missing, sets the login roles' settings and passwords, and refuses
/// roles that could pass by row-level security.
pub(crate) async fn ensure(
    connection: &mut PgConnection,
    passwords: Passwords<'_>,
) -> Result<(), Error> {
    for attempt in 1.. {
        let mut transaction = connection.begin().await?;
        let outcome = match apply(&mut transaction, passwords).await {
            Ok(()) => transaction.commit().await.map_err(Error::from),
            Err(error) => {
                transaction.rollback().await?;
                Err(error)
            }
        };
        match outcome {
            Err(Error::Database(error)) if attempt < TRIES && disturbed(&error) => {
                tokio::time::sleep(Duration::from_millis(20 * u64::from(attempt))).await;
            }
            outcome => return outcome,
        }
    }
    unreachable!("the loop ends by returning")
}

async fn apply(connection: &mut PgConnection, passwords: Passwords<'_>) -> Result<(), Error> {
    create(connection, OWNER_ROLE, "NOLOGIN").await?;
    for (role, password) in [(APP_ROLE, passwords.app), (SYSTEM_ROLE, passwords.system)] {
        create(connection, role, "LOGIN NOINHERIT").await?;
        for (setting, value) in APP_SETTINGS {
            configure(connection, role, setting, value).await?;
        }
        if let Some(password) = password {
            let statement = format!("SELECT format('ALTER ROLE {role} PASSWORD %L', $1)");
            run_built(connection, &statement, password).await?;
        }
    }
    refuse_powerful(connection).await?;
    carry(connection).await?;
    // The migrating login acts as the owner by SET ROLE.
    let member: bool = sqlx::query_scalar(
            // From PostgreSQL 16 on a member need not be able to SET ROLE.
            "SELECT pg_has_role('tenantry_owner',
                 CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)",
        )
        .fetch_one(&mut *connection)
        .await?;
    if !member {
        connection.execute("GRANT tenantry_owner TO CURRENT_USER").await?;
    }
    for statement in [
        "SELECT format('GRANT CONNECT, CREATE ON DATABASE %I TO tenantry_owner', current_database())",
        "SELECT format('GRANT CONNECT ON DATABASE %I TO tenantry_app, tenantry_system', current_database())",
        "SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database())",
    ] {
        let built: String = sqlx::query_scalar(statement).fetch_one(&mut *connection).await?;
        connection.execute(AssertSqlSafe(built)).await?;
    }
    Ok(())
}

async fn create(connection: &mut PgConnection, role: &str, options: &str) -> Result<(), Error> {
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
            .bind(role)
            .fetch_one(&mut *connection)
            .await?;
    if !exists {
        connection.execute(AssertSqlSafe(format!("CREATE ROLE {role} {options}"))).await?;
    }
    Ok(())
}

async fn refuse_powerful(connection: &mut PgConnection) -> Result<(), Error> {
    let powerful: Option<String> = sqlx::query_scalar(
        "SELECT rolname::text FROM pg_roles
         WHERE (rolsuper OR rolbypassrls OR rolcreaterole OR rolreplication)
           AND rolname IN ('tenantry_app', 'tenantry_owner', 'tenantry_system')",
    )
    .fetch_optional(connection)
    .await?;
    match powerful {
        Some(role) => Err(Error::PowerfulRole(role)),
        None => Ok(()),
    }
}

/// Lets the owner set the parameter that carries sessions, where this login may grant that.
async fn carry(connection: &mut PgConnection) -> Result<(), Error> {
    let may_grant: bool = sqlx::query_scalar(
        "SELECT has_parameter_privilege($2, 'SET WITH GRANT OPTION') AND NOT has_parameter_privilege($1, $2, 'SET')",
    )
    .bind(OWNER_ROLE)
    .bind(CARRIER_PARAMETER)
    .fetch_one(&mut *connection)
    .await?;
    if may_grant {
        let statement = format!("GRANT SET ON PARAMETER {CARRIER_PARAMETER} TO {OWNER_ROLE}");
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    Ok(())
}

/// Writes a setting only where it differs: each write is a row that two migrations could fight
/// about.
async fn configure(
    connection: &mut PgConnection,
    role: &str,
    name: &str,
    value: &str,
) -> Result<(), Error> {
    let set: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1 AND $2 = ANY(rolconfig))",
    )
    .bind(role)
    .bind(format!("{name}={value}"))
    .fetch_one(&mut *connection)
    .await?;
    if !set {
        let quoted = if name == "search_path" { value.to_owned() } else { format!("'{value}'") };
        let statement = format!("ALTER ROLE {role} SET {name} TO {quoted}");
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    Ok(())
}

/// Runs the statement that PostgreSQL itself builds, quoting included, from one argument.
async fn run_built(
    connection: &mut PgConnection,
    builder: &str,
    argument: &str,
) -> Result<(), Error> {
    let built: String = sqlx::query_scalar(AssertSqlSafe(builder.to_owned()))
        .bind(argument)
        .fetch_one(&mut *connection)
        .await?;
    connection.execute(AssertSqlSafe(built)).await?;
    Ok(())
}

/// Another migration touched the same role or database at the same time.
fn disturbed(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else {
        return false;
    };
    matches!(error.code().as_deref(), Some("23505" | "42710" | "40001" | "40P01"))
        || error.message().contains("concurrently updated")
}
