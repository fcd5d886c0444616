//! The outbox: work that follows a commit, written in the transaction that decides it.

use crate::rls::{self, KEEP};

const TABLE: &str = "
CREATE TABLE app.outbox (
    id              uuid NOT NULL DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL REFERENCES app.organizations ON DELETE CASCADE,
    kind            text NOT NULL,
    payload         jsonb NOT NULL DEFAULT '{}',
    attempts        integer NOT NULL DEFAULT 0,
    due_at          timestamptz DEFAULT now(),
    processed_at    timestamptz,
    error           text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id)
);
COMMENT ON COLUMN app.outbox.due_at IS 'Null: the writer itself processes the row.';
CREATE INDEX ON app.outbox (organization_id, due_at) WHERE processed_at IS NULL;
-- Background work processes the rows of all organizations, oldest first.
CREATE INDEX outbox_due ON app.outbox (due_at) WHERE processed_at IS NULL;
";

pub(super) fn sql() -> String {
    let table = "app.outbox";
    [
        TABLE.to_owned(),
        rls::tenant(table, "organization_id, id", KEEP),
        rls::system(table, "organization_id", KEEP),
        rls::touch(table),
    ]
    .concat()
}
