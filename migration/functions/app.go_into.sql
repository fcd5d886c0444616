-- Continues the transaction in an organization, or without one, and says where the organization lives.
-- The caller has checked that the user may be there. Only the owner's functions may call it.
DROP FUNCTION IF EXISTS app.go_into;
CREATE FUNCTION app.go_into(
    p_organization uuid, p_user uuid, p_role text, OUT home text, OUT home_version text, OUT home_generation bigint,
    OUT suspension text
) LANGUAGE plpgsql AS $$
DECLARE
    may_write boolean := current_setting('transaction_read_only') = 'off';
    moves     boolean;
BEGIN
    IF may_write AND p_organization IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(app.placement_lock(p_organization));
    END IF;
    SELECT p.home, p.version, p.generation, p.moving_to IS NOT NULL, p.suspension
        INTO home, home_version, home_generation, moves, suspension
        FROM app.placements p WHERE p.organization_id = p_organization;
    home := coalesce(home, (SELECT 'elsewhere' FROM app.database WHERE p_organization IS NOT NULL), 'shared');
    IF home = 'schema' AND to_regnamespace(app.placement_schema(p_organization)) IS NULL THEN
        RAISE 'the organization % has lost its schema', p_organization;
    END IF;
    PERFORM app.set_session(p_organization, p_user, p_role);
    IF may_write AND moves THEN
        PERFORM set_config('app.moving', 'on', true);
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION app.go_into FROM PUBLIC;
