//! The database, step by step: roles, then forward-only migrations, one file each.
//!
//! Every table is created together with its row-level security, policies, grants and indexes
//! (`rls.rs`), so no moment exists in which a table stands unprotected. Steps are plain SQL and are
//! never edited once released.
#![expect(clippy::disallowed_types, reason = "migrations run before there are tenants")]

pub mod audit_partitions;
pub mod dedicated;
pub mod functions;
pub mod placement;
mod rls;
pub mod roles;
mod run;
mod schemas;

mod m0001_foundation;
mod m0002_auth;
mod m0003_organization;
mod m0004_project;
mod m0005_billing;
mod m0006_audit;
mod m0007_outbox;
mod m0008_request;
mod m0009_invitation;
mod m0010_system;
mod m0011_opening;
mod m0012_reliability;
mod m0013_placement;
mod m0014_move;
mod m0015_tenant;
mod m0016_schemas;
mod m0017_database;
mod m0018_directory;
mod m0021_identity;
mod m0022_roles;
mod m0025_stripe_reasons;

use sea_orm_migration::prelude::*;

pub use run::{
    CONCURRENCY, Error, Passwords, Report, Run, Status, migrate, migrate_steps, migrate_with,
    status,
};
pub use schemas::Schemas;

/// The schemas that tenantry owns.
pub const SCHEMAS: [&str; 4] = ["app", "auth", "billing", "audit"];

/// The schema that remembers which steps were applied; the app role may read it.
pub const MIGRATION_SCHEMA: &str = "migration";

/// Owns every object and cannot log in.
pub const OWNER_ROLE: &str = "tenantry_owner";

/// The role in which servers answer requests: no rights beyond the grants of `rls.rs`.
pub const APP_ROLE: &str = "tenantry_app";

/// The role of background work, webhooks and commands that act without a user.
pub const SYSTEM_ROLE: &str = "tenantry_system";

/// The list of steps, oldest first.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_foundation::Migration),
            Box::new(m0002_auth::Migration),
            Box::new(m0003_organization::Migration),
            Box::new(m0004_project::Migration),
            Box::new(m0005_billing::Migration),
            Box::new(m0006_audit::Migration),
            Box::new(m0007_outbox::Migration),
            Box::new(m0008_request::Migration),
            Box::new(m0009_invitation::Migration),
            Box::new(m0010_system::Migration),
            Box::new(m0011_opening::Migration),
            Box::new(m0012_reliability::Migration),
            Box::new(m0013_placement::Migration),
            Box::new(m0014_move::Migration),
            Box::new(m0015_tenant::Migration),
            Box::new(m0016_schemas::Migration),
            Box::new(m0017_database::Migration),
            Box::new(m0018_directory::Migration),
            Box::new(m0021_identity::Migration),
            Box::new(m0022_roles::Migration),
            Box::new(m0025_stripe_reasons::Migration),
        ]
    }
}

/// Declares the step of a file: its SQL, applied in one transaction, without a way back.
macro_rules! step {
    ($name:literal, $sql:expr) => {
        pub(crate) struct Migration;

        impl sea_orm_migration::MigrationName for Migration {
            fn name(&self) -> &str {
                $name
            }
        }

        #[sea_orm_migration::async_trait::async_trait]
        impl sea_orm_migration::MigrationTrait for Migration {
            async fn up(
                &self,
                manager: &sea_orm_migration::SchemaManager,
            ) -> Result<(), sea_orm_migration::DbErr> {
                use sea_orm_migration::sea_orm::ConnectionTrait as _;
                let sql: String = $sql;
                manager.get_connection().execute_unprepared(&sql).await?;
                Ok(())
            }
        }
    };
}
pub(crate) use step;
