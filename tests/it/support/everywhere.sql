-- Views of the rows of all organizations in any placement. Tests read and write them like one
-- table.
CREATE SCHEMA everywhere;

-- Arguments: the shared table, its key, the column with the owner of a row, and whether the
-- directory mirrors the table.
CREATE FUNCTION everywhere.route() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    former  jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    later   jsonb := CASE TG_OP WHEN 'INSERT' THEN jsonb_strip_nulls(to_jsonb(NEW)) WHEN 'UPDATE' THEN to_jsonb(NEW) END;
    owner   uuid := coalesce(later, former) ->> TG_ARGV[2];
    placed  text := (SELECT p.placement FROM app.placements p WHERE p.organization_id = owner);
    target  text := CASE WHEN placed = 'schema' THEN format('%I.%I', app.placement_schema(owner), TG_TABLE_NAME)
                         WHEN placed LIKE 'database:%' THEN format('eu.%I', TG_TABLE_NAME)
                         ELSE TG_ARGV[0] END;
    columns text := (SELECT string_agg(quote_ident(k), ', ' ORDER BY k) FROM jsonb_object_keys(later) k);
    the_row text := format('(%1$s) IN (SELECT %1$s FROM jsonb_populate_record(NULL::%2$s, $1))', TG_ARGV[1], target);
BEGIN
    -- The dedicated database has only the users that its rows refer to.
    IF placed LIKE 'database:%' AND TG_OP <> 'DELETE' THEN
        INSERT INTO eu.users SELECT u.* FROM auth.users u
            WHERE u.id::text IN (SELECT value FROM jsonb_each_text(later) WHERE key IN ('user_id', 'invited_by', 'created_by'))
                AND NOT EXISTS (SELECT FROM eu.users known WHERE known.id = u.id);
        INSERT INTO eu.identities SELECT i.* FROM auth.identities i
            WHERE EXISTS (SELECT FROM eu.users known WHERE known.id = i.user_id)
                AND NOT EXISTS (SELECT FROM eu.identities known WHERE (known.issuer, known.subject) = (i.issuer, i.subject));
    END IF;
    -- The directory is updated at once, because a test may read it next.
    IF placed LIKE 'database:%' AND TG_ARGV[3] = 'true' THEN
        CASE TG_OP
            WHEN 'INSERT' THEN
                EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1) RETURNING to_jsonb(%3$I)',
                               TG_ARGV[0], columns, TG_TABLE_NAME) INTO later USING later;
                columns := (SELECT string_agg(quote_ident(k), ', ' ORDER BY k) FROM jsonb_object_keys(later) k);
            WHEN 'UPDATE' THEN
                EXECUTE format('UPDATE %1$s SET (%2$s) = (SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $2)) WHERE ', TG_ARGV[0], columns)
                    || replace(the_row, target, TG_ARGV[0]) USING former, later;
            ELSE
                EXECUTE format('DELETE FROM %s WHERE ', TG_ARGV[0]) || replace(the_row, target, TG_ARGV[0]) USING former;
        END CASE;
    END IF;
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
