//! The schema of version 0.1.0: every table with its keys, indexes and row-level security, by area.

mod audit;
mod auth;
mod billing;
mod idempotency;
mod invitation;
mod lookup;
mod organization;
mod outbox;
mod placement;

use crate::{
    functions,
    step::{Change, Step},
};

pub(crate) const STEP: Step = Step { name: "core/0001_baseline", changes };

const SCHEMAS: &str = "
-- A function is executable by the roles to which it is granted, not by PUBLIC.
ALTER DEFAULT PRIVILEGES FOR ROLE tenantry_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

CREATE SCHEMA app;
CREATE SCHEMA auth;
CREATE SCHEMA billing;
CREATE SCHEMA audit;
GRANT USAGE ON SCHEMA app, auth, billing, audit TO tenantry_app, tenantry_system;

CREATE TABLE migration.tenant_tables (
    name     text PRIMARY KEY,
    key      text NOT NULL,
    mirrored boolean NOT NULL,
    -- Referenced tables first.
    position integer GENERATED ALWAYS AS IDENTITY
);
GRANT SELECT ON migration.tenant_tables TO tenantry_app, tenantry_system;
";

fn changes() -> Vec<Change> {
    let mut changes = vec![
        Change::once(SCHEMAS),
        Change::once(functions::before_tables()),
        Change::once(auth::sql()),
    ];
    changes.extend(organization::changes());
    changes.push(Change::Table(invitation::TABLE));
    changes.push(Change::once(idempotency::sql()));
    changes.extend(billing::changes());
    changes.push(Change::Table(outbox::TABLE));
    changes.push(Change::once(audit::sql()));
    changes.push(Change::once(placement::sql()));
    changes.extend(lookup::changes());
    changes
}
