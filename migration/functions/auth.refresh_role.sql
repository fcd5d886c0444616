-- Applies the role that the current user has in the current organization by now, for example after
-- joining it.
DROP FUNCTION IF EXISTS auth.refresh_role;
CREATE FUNCTION auth.refresh_role() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = auth, app, pg_temp AS $$
    SELECT app.set_session(m.organization_id, m.user_id, m.role::text) FROM auth.organization_members m
        WHERE m.organization_id = app.current_organization() AND m.user_id = auth.current_user_id()
$$;
REVOKE EXECUTE ON FUNCTION auth.refresh_role FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.refresh_role TO tenantry_app;
