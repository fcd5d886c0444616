//! The roles, and names and settings that the whole crate shares.

use pg_migrate::{Database, Roles};

/// The schemas that tenantry owns.
pub const SCHEMAS: [&str; 4] = ["app", "auth", "billing", "audit"];

/// Owns every object and cannot log in.
pub const OWNER_ROLE: &str = "tenantry_owner";

/// The role in which servers answer requests: no rights beyond the grants of `rls.rs`.
pub const APP_ROLE: &str = "tenantry_app";

/// The role of background work, webhooks and commands that act without a user.
pub const SYSTEM_ROLE: &str = "tenantry_system";

/// The parameter that carries the session of a transaction, where the owner may be granted SET on
/// it: a text that every role can read, and that otherwise only a superuser can set.
pub const CARRIER_PARAMETER: &str = "backtrace_functions";

/// Migrations of the same database wait for each other on this advisory lock ("tenantry" in ASCII).
pub(crate) const LOCK: i64 = 0x7465_6e61_6e74_7279;

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

/// What migrations create besides the tables and functions.
pub(crate) static DATABASE: Database = Database {
    lock: LOCK,
    schemas: &SCHEMAS,
    roles: Roles {
        owner: OWNER_ROLE,
        logins: &[APP_ROLE, SYSTEM_ROLE],
        settings: &APP_SETTINGS,
        parameter: CARRIER_PARAMETER,
    },
};
