//! Projects: the model for every further tenant-owned resource.

use crate::rls;

crate::step!("m0004_project", sql());

const TABLES: &str = "
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
CREATE INDEX ON app.projects (created_by);
";

fn sql() -> String {
    [
        TABLES.to_owned(),
        rls::tenant_by_setting("app.projects", "organization_id", rls::ALL),
        rls::touch("app.projects"),
    ]
    .concat()
}
