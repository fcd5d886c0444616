-- Copies a change of a table in a dedicated schema to the shared table. It does so only while the
-- organization is placed in the schema: rows that a move prepares there or has left behind are not
-- current, and foreign keys change them as well. Arguments: the shared table, and the columns of
-- its primary key.
CREATE OR REPLACE FUNCTION app.mirror_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shared  text := TG_ARGV[0];
    keys    text := TG_ARGV[1];
    changed jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
    columns text;
BEGIN
    IF NOT EXISTS (SELECT FROM app.placements p
                   WHERE p.organization_id = (changed ->> split_part(keys, ', ', 1))::uuid AND p.placement = 'schema')
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
