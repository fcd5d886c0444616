//! What changes in an organization while it is brought from one place to another is written down, so that it can be brought after it.

use crate::{
    placement,
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

/// The trigger costs a comparison where nothing is on its way.
fn noted(table: &str, key: &str) -> String {
    let arguments = key.split(", ").map(|column| format!("'{column}'")).collect::<Vec<_>>();
    format!(
        "CREATE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW
             WHEN (current_setting('app.moving', true) = 'on') EXECUTE FUNCTION app.note_change({});\n",
        arguments.join(", ")
    )
}

fn sql() -> String {
    let changes = "app.pending_changes";
    let triggers = placement::TABLES.iter().map(|table| noted(table.name, table.key));
    [
        SQL.to_owned(),
        rls::protect(changes),
        rls::definer(changes, &[Verb::Select, Verb::Insert, Verb::Delete]),
    ]
    .into_iter()
    .chain(triggers)
    .collect()
}

/// For a schema that was made before.
pub(crate) fn of_schema(schema: &str) -> String {
    placement::TABLES.iter().map(|table| noted(&table.in_schema(schema), table.key)).collect()
}
