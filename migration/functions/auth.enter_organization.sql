-- Enters an organization without a user, for work of the system, and says where it lives; NULL enters
-- none. A request cannot call it: auth.open_request, auth.begin_organization and
-- auth.enter_invited are its ways in.
DROP FUNCTION IF EXISTS auth.enter_organization;
CREATE FUNCTION auth.enter_organization(
    p_organization uuid, OUT home text, OUT home_version text, OUT home_generation bigint
) LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
    SELECT g.home, g.home_version, g.home_generation FROM app.go_into(p_organization, NULL, NULL) g
$$;
REVOKE EXECUTE ON FUNCTION auth.enter_organization FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.enter_organization TO tenantry_system;
