//! The outbox: what must happen after a commit, written in the transaction that decides it.

use crate::rls;

crate::step!("m0007_outbox", sql());

const TABLES: &str = "
CREATE TABLE app.outbox (
    id              uuid NOT NULL DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL REFERENCES app.organizations ON DELETE CASCADE,
    kind            text NOT NULL,
    payload         jsonb NOT NULL DEFAULT '{}',
    attempts        integer NOT NULL DEFAULT 0,
    due_at          timestamptz NOT NULL DEFAULT now(),
    processed_at    timestamptz,
    error           text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX ON app.outbox (organization_id, due_at) WHERE processed_at IS NULL;
";

fn sql() -> String {
    [
        TABLES.to_owned(),
        rls::tenant_by_setting("app.outbox", "organization_id", rls::KEEP),
        rls::touch("app.outbox"),
    ]
    .concat()
}
