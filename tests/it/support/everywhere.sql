-- The rows of all organizations wherever they live, to be read and written by tests as if they lived in one table.
CREATE SCHEMA everywhere;

-- Arguments: the shared table, its key, and the column that says whose a row is.
CREATE FUNCTION everywhere.route() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    former  jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    later   jsonb := CASE TG_OP WHEN 'INSERT' THEN jsonb_strip_nulls(to_jsonb(NEW)) WHEN 'UPDATE' THEN to_jsonb(NEW) END;
    whose   uuid := coalesce(later, former) ->> TG_ARGV[2];
    target  text := CASE WHEN EXISTS (SELECT FROM app.placements WHERE organization_id = whose AND home = 'schema')
                         THEN format('%I.%I', app.placement_schema(whose), TG_TABLE_NAME) ELSE TG_ARGV[0] END;
    columns text := (SELECT string_agg(quote_ident(k), ', ' ORDER BY k) FROM jsonb_object_keys(later) k);
    the_row text := format('(%1$s) IN (SELECT %1$s FROM jsonb_populate_record(NULL::%2$s, $1))', TG_ARGV[1], target);
BEGIN
    CASE TG_OP
        WHEN 'INSERT' THEN
            EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1)', target, columns) USING later;
            RETURN NEW;
        WHEN 'UPDATE' THEN
            EXECUTE format('UPDATE %1$s SET (%2$s) = (SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $2)) WHERE ', target, columns)
                || the_row USING former, later;
            RETURN NEW;
        ELSE
            EXECUTE format('DELETE FROM %s WHERE ', target) || the_row USING former;
            RETURN OLD;
    END CASE;
END
$$;
