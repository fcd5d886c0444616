-- How many organizations the current user owns.
DROP FUNCTION IF EXISTS auth.viewer_ownerships;
CREATE FUNCTION auth.viewer_ownerships() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = auth, pg_temp AS $$
    SELECT count(*) FROM auth.organization_members m
        WHERE m.user_id = (SELECT auth.current_user_id()) AND m.role = 'owner'
$$;
REVOKE EXECUTE ON FUNCTION auth.viewer_ownerships FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.viewer_ownerships TO tenantry_app;
