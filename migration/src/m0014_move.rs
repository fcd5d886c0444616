//! What changes in an organization while it is brought from one place to another is written down,
//! so that it can be brought after it.

use crate::{
    placement::in_schema,
    rls::{self, Verb},
};

crate::step!("m0014_move", sql());

const SQL: &str = r"
CREATE TABLE app.pending_changes (
    organization_id uuid NOT NULL,
    number          bigint GENERATED ALWAYS AS IDENTITY,
    table_name      text NOT NULL,
    -- The primary key of the row that was written or deleted.
    key             jsonb NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, number)
);

-- Arguments: the columns of the primary key.
CREATE FUNCTION app.note_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
BEGIN
    INSERT INTO app.pending_changes (organization_id, table_name, key)
        SELECT (changed ->> TG_ARGV[0])::uuid, TG_TABLE_NAME, jsonb_object_agg(k, changed -> k) FROM unnest(TG_ARGV) k;
    RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION app.note_change FROM PUBLIC;
";

/// The tables of organizations at this step, with their primary keys.
const TABLES: [(&str, &str); 8] = [
    ("app.organizations", "id"),
    ("auth.organization_members", "organization_id, id"),
    ("auth.invitations", "organization_id, id"),
    ("billing.organization_billing", "organization_id"),
    ("app.projects", "organization_id, id"),
    ("billing.usage", "organization_id, feature, period_start"),
    ("app.outbox", "organization_id, id"),
    ("audit.audit_logs", "organization_id, created_at, id"),
];

fn sql() -> String {
    let changes = "app.pending_changes";
    [
        SQL.to_owned(),
        rls::protect(changes),
        rls::definer(changes, &[Verb::Select, Verb::Insert, Verb::Delete]),
    ]
    .into_iter()
    .chain(TABLES.map(|(table, key)| rls::noted(table, key)))
    .collect()
}

/// For a schema that was made before.
pub(crate) fn of_schema(schema: &str) -> String {
    TABLES.map(|(table, key)| rls::noted(&in_schema(schema, table), key)).concat()
}
