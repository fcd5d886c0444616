-- The tables with copies that differ from their sources, for the self-check. Requests are opened
-- from these copies. Unless p_complete, only copies that can shut someone out are compared: those
-- of organizations with a placement and of suspended users, which are few.
CREATE OR REPLACE FUNCTION app.stale_copies(p_complete boolean) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'app.organization_lookup' WHERE EXISTS (
        SELECT FROM app.placements p JOIN app.lookup_source() s USING (organization_id)
            LEFT JOIN app.organization_lookup l USING (organization_id)
        WHERE s IS DISTINCT FROM l)
      OR p_complete AND EXISTS (
        SELECT FROM app.lookup_source() s LEFT JOIN app.organization_lookup l USING (organization_id)
        WHERE s IS DISTINCT FROM l)
    UNION ALL
    SELECT 'auth.identities' WHERE EXISTS (
        SELECT FROM auth.users u JOIN auth.identities i ON i.user_id = u.id
        WHERE u.suspended_at IS NOT NULL AND i.suspended_at IS DISTINCT FROM u.suspended_at)
      OR p_complete AND EXISTS (
        SELECT FROM auth.users u JOIN auth.identities i ON i.user_id = u.id
        WHERE i.suspended_at IS DISTINCT FROM u.suspended_at)
$$;
