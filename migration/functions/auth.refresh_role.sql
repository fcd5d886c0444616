-- Applies the current user's present role in the current organization, for example after joining
-- it.
CREATE OR REPLACE FUNCTION auth.refresh_role() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = auth, app, pg_temp AS $$
    SELECT app.set_session(m.organization_id, m.user_id, m.role::text) FROM auth.organization_members m
        WHERE m.organization_id = app.current_organization() AND m.user_id = auth.current_user_id()
$$;
