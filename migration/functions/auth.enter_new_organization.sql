-- Enters an organization that does not exist yet, as its owner, and returns its id. The function
-- generates the id, so that a caller cannot name an organization that has rows.
CREATE OR REPLACE FUNCTION auth.enter_new_organization() RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, app, pg_temp AS $$
DECLARE
    organization uuid := gen_random_uuid();
BEGIN
    IF auth.current_user_id() IS NULL THEN
        RAISE 'an organization needs a user who creates it';
    END IF;
    IF EXISTS (SELECT FROM app.database) THEN
        RAISE 'organizations are created in the control database';
    END IF;
    PERFORM app.set_session(organization, auth.current_user_id(), 'owner');
    RETURN organization;
END
$$;
