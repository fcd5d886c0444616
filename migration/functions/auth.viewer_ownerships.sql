-- How many organizations the current user owns.
CREATE OR REPLACE FUNCTION auth.viewer_ownerships() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = auth, pg_temp AS $$
    SELECT count(*) FROM auth.organization_members m
        WHERE m.user_id = (SELECT auth.current_user_id()) AND m.role = 'owner'
$$;
