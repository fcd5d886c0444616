-- All organizations of the current user, independent of the organization of the request.
CREATE OR REPLACE FUNCTION auth.viewer_memberships()
RETURNS TABLE (organization_id uuid, name text, slug text, role text, joined_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = auth, app, pg_temp AS $$
    SELECT o.id, o.name, o.slug, m.role::text, m.joined_at
        FROM auth.organization_members m JOIN app.organizations o ON o.id = m.organization_id
        WHERE m.user_id = (SELECT auth.current_user_id())
        ORDER BY m.joined_at, o.id
$$;
