-- The organizations of the current user, whichever one the request is in.
DROP FUNCTION IF EXISTS auth.viewer_memberships;
CREATE FUNCTION auth.viewer_memberships()
RETURNS TABLE (organization_id uuid, name text, slug text, role text, joined_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = auth, app, pg_temp AS $$
    SELECT o.id, o.name, o.slug, m.role::text, m.joined_at
        FROM auth.organization_members m JOIN app.organizations o ON o.id = m.organization_id
        WHERE m.user_id = (SELECT auth.current_user_id())
        ORDER BY m.joined_at, o.id
$$;
REVOKE EXECUTE ON FUNCTION auth.viewer_memberships FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.viewer_memberships TO tenantry_app;
