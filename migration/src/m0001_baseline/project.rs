//! Projects: the example for every further tenant-owned resource.

use crate::rls::{self, ALL};

const TABLE: &str = "
CREATE TABLE app.projects (
    id              uuid NOT NULL DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL REFERENCES app.organizations ON DELETE CASCADE,
    name            text NOT NULL,
    description     text,
    created_by      uuid REFERENCES auth.users ON DELETE SET NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX ON app.projects (organization_id, created_at DESC, id DESC);
CREATE INDEX ON app.projects (organization_id, created_by, created_at DESC, id DESC);
CREATE INDEX ON app.projects (created_by);
";

pub(super) fn sql() -> String {
    let table = "app.projects";
    TABLE.to_owned() + &rls::tenant(table, "organization_id, id", ALL) + &rls::touch(table)
}
