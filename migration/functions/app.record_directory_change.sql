-- In a dedicated database: records which row the control database has to copy. Arguments: the
-- columns of the primary key.
CREATE OR REPLACE FUNCTION app.record_directory_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
BEGIN
    INSERT INTO app.directory_changes (organization_id, table_name, key)
        SELECT (changed ->> TG_ARGV[0])::uuid, TG_TABLE_NAME, jsonb_object_agg(k, changed -> k) FROM unnest(TG_ARGV) k;
    RETURN NULL;
END
$$;
