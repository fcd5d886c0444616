-- Records what happened to a user in the audit log of each of their organizations that is placed in
-- this database. Only functions of the owner may call it.
CREATE OR REPLACE FUNCTION auth.record_user_event(
    p_user uuid, p_actor uuid, p_actor_name text, p_action text, p_metadata jsonb
) RETURNS void
LANGUAGE plpgsql SET search_path = auth, app, audit, pg_temp AS $$
DECLARE
    organization uuid;
    placement    text;
    is_moving    boolean;
    before       text := coalesce(current_setting('app.moving', true), '');
BEGIN
    -- Ordered, so that two concurrent calls do not deadlock.
    FOR organization IN SELECT m.organization_id FROM auth.organization_members m WHERE m.user_id = p_user ORDER BY 1 LOOP
        PERFORM pg_advisory_xact_lock_shared(app.placement_lock(organization));
        SELECT p.placement, p.moving_to IS NOT NULL INTO placement, is_moving
            FROM app.placements p WHERE p.organization_id = organization;
        placement := coalesce(placement, (SELECT 'remote' FROM app.database), 'shared');
        CONTINUE WHEN placement NOT IN ('shared', 'schema');
        PERFORM set_config('app.moving', CASE WHEN is_moving THEN 'on' ELSE '' END, true);
        EXECUTE format('INSERT INTO %s (organization_id, actor_id, actor_name, action, resource_type, resource_id, metadata)
                        VALUES ($1, $2, $3, $4, ''user'', $5, $6)',
                       CASE placement WHEN 'schema' THEN app.placement_schema(organization) || '.audit_logs' ELSE 'audit.audit_logs' END)
            USING organization, p_actor, p_actor_name, p_action, p_user, p_metadata;
    END LOOP;
    PERFORM set_config('app.moving', before, true);
END
$$;
