-- Problems of dedicated schemas. p_version names the newest step of each source that changes them.
-- problem: MISSING (an organization is placed in a schema that does not exist), BEHIND (schemas
-- lack steps; schema_name is their number), UNUSED (no organization is placed there, and the
-- retention of a move's source has ended).
CREATE OR REPLACE FUNCTION app.schema_problems(p_version text) RETURNS TABLE (problem text, schema_name text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH placed AS (
        SELECT app.placement_schema(p.organization_id) AS name, p.placement = 'schema' AS is_current, p.version,
               p.placement = 'schema' OR p.moving_to = 'schema'
                   OR (p.old_placement = 'schema' AND p.keep_old_until > now() - interval '1 day') AS needed
        FROM app.placements p
    ),
    existing AS (SELECT n.nspname AS name FROM pg_namespace n WHERE n.nspname ~ '^org_[0-9a-f]{32}$')
    SELECT 'MISSING', p.name FROM placed p WHERE p.is_current AND NOT EXISTS (SELECT FROM existing e WHERE e.name = p.name)
    UNION ALL
    SELECT 'BEHIND', count(*)::text FROM placed p
        WHERE p.is_current AND EXISTS (
            SELECT FROM unnest(string_to_array(p_version, ' ')) needed WHERE NOT EXISTS (
                SELECT FROM unnest(string_to_array(p.version, ' ')) had
                WHERE split_part(had, '/', 1) = split_part(needed, '/', 1) AND had COLLATE "C" >= needed))
        HAVING count(*) > 0
    UNION ALL
    SELECT 'UNUSED', e.name FROM existing e WHERE NOT EXISTS (SELECT FROM placed p WHERE p.name = e.name AND p.needed)
$$;
