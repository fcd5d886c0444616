//! What the commands that look after single tenants may do as the owner, and what moving one must
//! be able to rely on.

use crate::{
    placement::in_schema,
    rls::{self, Verb},
};

crate::step!("m0015_tenant", sql());

/// What only organizations themselves could reach until now.
const NEWLY_REACHED: [&str; 2] = ["app.projects", "billing.usage"];

const FUNCTIONS: &str = r"
-- As before, but only for an organization that lives in the schema: what is being made ready there, or was left behind there, is not
-- the truth, and foreign keys change it as well.
CREATE OR REPLACE FUNCTION app.mirror_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shared  text := TG_ARGV[0];
    keys    text := TG_ARGV[1];
    changed jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
    columns text;
BEGIN
    IF NOT EXISTS (SELECT FROM app.placements p
                   WHERE p.organization_id = (changed ->> split_part(keys, ', ', 1))::uuid AND p.home = 'schema')
    THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        EXECUTE format('DELETE FROM %1$s WHERE (%2$s) IN (SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1))', shared, keys)
            USING changed;
        RETURN NULL;
    END IF;
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns
        FROM pg_attribute a WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped;
    EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1)
                    ON CONFLICT (%3$s) DO UPDATE SET (%2$s) = ROW(%4$s)',
                   shared, columns, keys, 'excluded.' || replace(columns, ', ', ', excluded.'))
        USING changed;
    RETURN NULL;
END
$$;

-- As before, also for a row that lies in a partition of the table.
CREATE OR REPLACE FUNCTION app.note_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
BEGIN
    INSERT INTO app.pending_changes (organization_id, table_name, key)
        SELECT (changed ->> TG_ARGV[0])::uuid,
               (SELECT c.relname FROM pg_class c WHERE c.oid = coalesce(pg_partition_root(TG_RELID), TG_RELID)),
               jsonb_object_agg(k, changed -> k)
        FROM unnest(TG_ARGV) k;
    RETURN NULL;
END
$$;
";

fn sql() -> String {
    let reached = NEWLY_REACHED.map(|table| rls::definer(table, rls::ALL)).concat();
    let placements = rls::definer("app.placements", &[Verb::Insert, Verb::Update, Verb::Delete]);
    placements + &reached + FUNCTIONS
}

/// For a schema that was made before.
pub(crate) fn of_schema(schema: &str) -> String {
    NEWLY_REACHED.map(|table| rls::definer(&in_schema(schema, table), rls::ALL)).concat()
}
