//! The database: roles, then forward-only steps, then the functions.
//!
//! A step creates a table together with its row-level security, policies, grants and indexes
//! (`rls.rs`), so that no table is ever unprotected. Steps are plain SQL and never edited once
//! released; functions are files that are applied again whenever they change.

pub mod audit_partitions;
pub mod dedicated;
pub mod functions;
pub mod placement;
mod rls;
pub mod roles;
mod run;
mod schemas;
mod step;

mod m0001_baseline;

pub use run::{CONCURRENCY, Error, Passwords, Report, Run, migrate, migrate_with};
pub use schemas::Schemas;
pub use step::{INCOMPATIBLE, Status, Step, status};

/// The schemas that tenantry owns.
pub const SCHEMAS: [&str; 4] = ["app", "auth", "billing", "audit"];

/// The settings of a session in which statements of the owner mean the same in any database and
/// wait as long as they need.
pub const SESSION: &str = "SET standard_conforming_strings = on; SET quote_all_identifiers = off;
    SET row_security = on; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, MDY';
    SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'; SET client_min_messages = warning;
    SET statement_timeout = 0; SET lock_timeout = 0";

/// Owns every object and cannot log in.
pub const OWNER_ROLE: &str = "tenantry_owner";

/// The role in which servers answer requests: no rights beyond the grants of `rls.rs`.
pub const APP_ROLE: &str = "tenantry_app";

/// The role of background work, webhooks and commands that act without a user.
pub const SYSTEM_ROLE: &str = "tenantry_system";

/// The steps, oldest first. The names of later steps sort after those of earlier ones.
pub const STEPS: &[Step] = &[m0001_baseline::STEP];
