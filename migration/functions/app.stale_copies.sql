-- The tables with copies that differ from their sources, for the self-check. Requests are opened
-- from these copies. is_unsafe: a copy could open a suspended or moved organization, or admit a
-- suspended user. Unless p_complete, only these are returned, and only organizations with a
-- placement and suspended users are compared, which are few.
CREATE OR REPLACE FUNCTION app.stale_copies(p_complete boolean) RETURNS TABLE (name text, is_unsafe boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'app.organization_lookup', true WHERE NOT p_complete AND EXISTS (
        SELECT FROM app.placements p JOIN app.lookup_source() s USING (organization_id)
            JOIN app.organization_lookup l USING (organization_id)
        WHERE l.slug IS NOT NULL AND l.slug IS DISTINCT FROM s.slug)
    UNION ALL
    SELECT 'app.organization_lookup', bool_or(l.slug IS NOT NULL AND l.slug IS DISTINCT FROM s.slug)
        FROM app.lookup_source() s LEFT JOIN app.organization_lookup l USING (organization_id)
        WHERE p_complete AND to_jsonb(l) @> to_jsonb(s) IS NOT TRUE
        HAVING count(*) > 0
    UNION ALL
    SELECT 'auth.identities', true WHERE NOT p_complete AND EXISTS (
        SELECT FROM auth.users u JOIN auth.identities i ON i.user_id = u.id
        WHERE u.suspended_at IS NOT NULL AND i.suspended_at IS NULL)
    UNION ALL
    SELECT 'auth.identities', bool_or(u.suspended_at IS NOT NULL AND i.suspended_at IS NULL)
        FROM auth.users u JOIN auth.identities i ON i.user_id = u.id
        WHERE p_complete AND i.suspended_at IS DISTINCT FROM u.suspended_at
        HAVING count(*) > 0
$$;
