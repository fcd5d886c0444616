-- Continues the transaction in an organization, or without one, and returns the organization's
-- placement. The caller has checked that the user may enter it. Only functions of the owner may
-- call it.
CREATE OR REPLACE FUNCTION app.open_session(
    p_organization uuid, p_user uuid, p_role text, OUT placement text, OUT placement_version text,
    OUT placement_generation bigint, OUT suspension text
) LANGUAGE plpgsql AS $$
DECLARE
    may_write boolean := current_setting('transaction_read_only') = 'off';
    is_moving boolean;
BEGIN
    IF may_write AND p_organization IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(app.placement_lock(p_organization));
    END IF;
    SELECT p.placement, p.version, p.generation, p.moving_to IS NOT NULL, p.suspension
        INTO placement, placement_version, placement_generation, is_moving, suspension
        FROM app.placements p WHERE p.organization_id = p_organization;
    placement := coalesce(placement, (SELECT 'remote' FROM app.database WHERE p_organization IS NOT NULL), 'shared');
    IF placement = 'schema' AND to_regnamespace(app.placement_schema(p_organization)) IS NULL THEN
        RAISE 'the schema of organization % does not exist', p_organization;
    END IF;
    PERFORM app.set_session(p_organization, p_user, p_role);
    IF may_write AND is_moving THEN
        PERFORM set_config('app.moving', 'on', true);
    END IF;
END
$$;
