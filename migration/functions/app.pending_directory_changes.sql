-- In a dedicated database: the changed rows as they are now (row is NULL: deleted), oldest change
-- first, except those of the organizations p_except. A concurrent reader waits, so that an older
-- row is never applied after a newer one.
CREATE OR REPLACE FUNCTION app.pending_directory_changes(p_limit integer, p_except uuid[] DEFAULT '{}')
RETURNS TABLE (numbers bigint[], change jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
    seen      bigint[];
    directory record;
BEGIN
    -- Most of the time there is nothing to do, and a transaction that recorded a change sees it.
    IF NOT EXISTS (SELECT FROM app.directory_changes) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('tenantry directory', 0));
    seen := ARRAY(SELECT c.number FROM app.directory_changes c WHERE c.organization_id <> ALL (p_except) ORDER BY c.number LIMIT p_limit);
    FOR directory IN SELECT t.name, split_part(t.name, '.', 2) AS base_name, t.key FROM migration.tenant_tables t WHERE t.mirrored ORDER BY t.position LOOP
        RETURN QUERY EXECUTE format(
            'SELECT c.numbers, jsonb_build_object(''table'', %2$L, ''organization'', c.organization_id, ''key'', c.key, ''row'', r.content)
             FROM (SELECT array_agg(number) AS numbers, max(number) AS newest, organization_id, key
                   FROM app.directory_changes WHERE number = ANY ($1) AND table_name = %3$L GROUP BY organization_id, key) c
                 LEFT JOIN LATERAL (SELECT to_jsonb(t) AS content FROM %1$s t
                                    WHERE (%4$s) IN (SELECT %4$s FROM jsonb_populate_record(NULL::%1$s, c.key))) r ON true
             ORDER BY c.newest', directory.name, directory.name, directory.base_name, directory.key)
            USING seen;
    END LOOP;
END
$$;
