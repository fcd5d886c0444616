//! Names and settings that the whole crate shares.

/// The schemas that tenantry owns.
pub const SCHEMAS: [&str; 4] = ["app", "auth", "billing", "audit"];

/// The settings of a session in which statements of the owner mean the same in any database and
/// wait as long as they need.
pub const SESSION: &str = "SET standard_conforming_strings = on; SET quote_all_identifiers = off;
    SET row_security = on; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, MDY';
    SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'; SET client_min_messages = warning;
    SET default_transaction_read_only = off; SET default_transaction_deferrable = off;
    SET default_transaction_isolation = 'read committed';
    SET statement_timeout = 0; SET lock_timeout = 0;
    SET idle_session_timeout = 0; SET idle_in_transaction_session_timeout = 0;
    -- Exists from PostgreSQL 17 on.
    SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings
    WHERE name = 'transaction_timeout'";

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
