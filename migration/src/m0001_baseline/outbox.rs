//! The outbox: work that follows a commit, written in the transaction that decides it.

use crate::{rls::KEEP, table::Table};

pub(super) const TABLE: Table = Table {
    name: "app.outbox",
    resource: "outbox",
    columns: "
    kind         text NOT NULL,
    payload      jsonb NOT NULL DEFAULT '{}',
    attempts     integer NOT NULL DEFAULT 0,
    due_at       timestamptz DEFAULT now(),
    processed_at timestamptz,
    error        text",
    verbs: KEEP,
    system: KEEP,
    paged: false,
    mirrored: true,
    more: "
COMMENT ON COLUMN outbox.due_at IS 'Null: the writer itself processes the row.';
CREATE INDEX ON outbox (organization_id, due_at) WHERE processed_at IS NULL;
-- Background work processes the rows of all organizations, oldest first.
CREATE INDEX outbox_due ON outbox (due_at) WHERE processed_at IS NULL;
",
    ..Table::RESOURCE
};
