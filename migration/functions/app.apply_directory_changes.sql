-- In the control database: applies changes that were committed in a dedicated database to the
-- copies of the organizations that are placed there. Returns the organizations whose changes
-- failed, with the reason; changes of the others are applied.
CREATE OR REPLACE FUNCTION app.apply_directory_changes(p_database text, p_changes jsonb)
RETURNS TABLE (organization uuid, reason text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, auth, pg_temp AS $$
DECLARE
    current_id uuid;
    changes    jsonb;
    change     record;
    columns    text;
BEGIN
    -- A caller that timed out may have left a transaction that still runs.
    PERFORM pg_advisory_xact_lock(hashtextextended('directory of ' || p_database, 0));
    PERFORM set_config('app.replicating', 'on', true);
    FOR current_id, changes IN
        SELECT p.organization_id, jsonb_agg(n.value ORDER BY n.ordinality)
        FROM jsonb_array_elements(p_changes) WITH ORDINALITY n (value, ordinality)
            JOIN app.placements p ON p.organization_id = (n.value ->> 'organization')::uuid AND p.placement = 'database:' || p_database
        GROUP BY p.organization_id
    LOOP
        BEGIN
            -- Unique values are released before they are used again: deletions first, children
            -- before parents; then updates of existing rows; then new rows.
            FOR change IN
                SELECT t.*, n.value -> 'key' AS deleted
                FROM jsonb_array_elements(changes) WITH ORDINALITY n (value, ordinality)
                    JOIN migration.tenant_tables t ON t.mirrored AND t.name = n.value ->> 'table'
                WHERE jsonb_typeof(n.value -> 'row') = 'null' AND (n.value #>> ARRAY['key', split_part(t.key, ', ', 1)])::uuid = current_id
                ORDER BY t.position DESC, n.ordinality
            LOOP
                EXECUTE format('DELETE FROM %1$s WHERE (%2$s) IN (SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1))',
                               change.name, change.key) USING change.deleted;
                IF change.name = 'app.organizations' THEN
                    UPDATE app.organization_slugs SET retired_at = now() WHERE organization_id = current_id;
                END IF;
            END LOOP;
            FOR change IN
                SELECT passes, t.*, n.value -> 'row' AS content
                FROM generate_series(1, 2) passes, jsonb_array_elements(changes) WITH ORDINALITY n (value, ordinality)
                    JOIN migration.tenant_tables t ON t.mirrored AND t.name = n.value ->> 'table'
                WHERE jsonb_typeof(n.value -> 'row') = 'object' AND (n.value #>> ARRAY['row', split_part(t.key, ', ', 1)])::uuid = current_id
                ORDER BY passes, t.position, n.ordinality
            LOOP
                -- While databases are migrated one after the other, their columns may differ.
                SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns
                    FROM pg_attribute a
                    WHERE a.attrelid = change.name::regclass AND a.attnum > 0 AND NOT a.attisdropped AND change.content ? a.attname;
                IF change.passes = 1 THEN
                    EXECUTE format('UPDATE %1$s SET (%2$s) = (SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1))
                                    WHERE (%3$s) IN (SELECT %3$s FROM jsonb_populate_record(NULL::%1$s, $1))',
                                   change.name, columns, change.key) USING change.content;
                    CONTINUE;
                END IF;
                IF change.name = 'app.organizations' THEN
                    INSERT INTO app.organization_slugs AS s (slug, organization_id) VALUES (change.content ->> 'slug', current_id)
                        ON CONFLICT (slug) DO UPDATE SET retired_at = NULL
                        WHERE s.organization_id = current_id AND s.retired_at IS NOT NULL;
                    UPDATE app.organization_slugs SET retired_at = now()
                        WHERE organization_id = current_id AND slug <> change.content ->> 'slug' AND retired_at IS NULL;
                ELSIF change.name = 'auth.organization_members' THEN
                    INSERT INTO auth.user_changes (user_id, database) VALUES ((change.content ->> 'user_id')::uuid, p_database);
                END IF;
                EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1) ON CONFLICT (%3$s) DO NOTHING',
                               change.name, columns, change.key) USING change.content;
            END LOOP;
        EXCEPTION WHEN OTHERS THEN
            organization := current_id;
            reason := SQLERRM;
            RETURN NEXT;
        END;
    END LOOP;
    PERFORM set_config('app.replicating', '', true);
END
$$;
