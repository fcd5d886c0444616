//! The schema of version 0.1.0: every table with its keys, indexes and row-level security, by area.

mod audit;
mod auth;
mod billing;
mod idempotency;
mod invitation;
mod organization;
mod outbox;
mod placement;
mod project;

use crate::{Step, functions};

pub(crate) const STEP: Step = Step { name: "m0001_baseline", shared: sql, schema: None };

const SCHEMAS: &str = "
-- A function is executable by the roles to which it is granted, not by PUBLIC.
ALTER DEFAULT PRIVILEGES FOR ROLE tenantry_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

CREATE SCHEMA app;
CREATE SCHEMA auth;
CREATE SCHEMA billing;
CREATE SCHEMA audit;
GRANT USAGE ON SCHEMA app, auth, billing, audit TO tenantry_app, tenantry_system;
";

fn sql() -> String {
    [
        SCHEMAS.to_owned(),
        functions::before_tables(),
        auth::sql(),
        organization::sql(),
        invitation::sql(),
        idempotency::sql(),
        project::sql(),
        billing::sql(),
        outbox::sql(),
        audit::sql(),
        placement::sql(),
    ]
    .concat()
}
