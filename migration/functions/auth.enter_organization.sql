-- Enters an organization without a user, for background work, and returns its placement; NULL
-- enters none. A request cannot call it: it enters an organization through auth.open_request,
-- auth.enter_new_organization or auth.enter_invited_organization.
CREATE OR REPLACE FUNCTION auth.enter_organization(
    p_organization uuid, OUT placement text, OUT placement_version text, OUT placement_generation bigint
) LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
    SELECT s.placement, s.placement_version, s.placement_generation FROM app.open_session(p_organization, NULL, NULL) s
$$;
