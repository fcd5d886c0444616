-- Completes a move to the shared tables of this database, for this generation, after all rows were
-- copied. Returns whether there was one.
CREATE OR REPLACE FUNCTION app.accept_organization(p_organization uuid, p_generation bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, audit, pg_temp AS $$
DECLARE
    metadata jsonb;
BEGIN
    UPDATE app.placements p
        SET placement = 'shared', moving_to = NULL, moved_at = now(), generation = p_generation, old_placement = nullif(p.placement, 'remote'),
            keep_old_until = CASE WHEN p.placement <> 'remote' THEN coalesce(p.keep_old_until, now() + interval '7 days') END
        WHERE p.organization_id = p_organization AND p.move_metadata IS NOT NULL AND (
            -- In a dedicated database: the control database has recorded the move.
            p.placement = 'remote' AND p.generation = p_generation AND EXISTS (SELECT FROM app.database)
            -- In the control database: the dedicated database has released the organization.
            OR p.placement ~ '^database:' AND p.generation = p_generation - 1 AND p.moving_to = 'shared'
               AND NOT EXISTS (SELECT FROM app.database))
        RETURNING p.move_metadata INTO metadata;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- Recorded once: a later move brings its own metadata.
    UPDATE app.placements SET move_metadata = NULL WHERE organization_id = p_organization;
    INSERT INTO audit.audit_logs (organization_id, actor_name, action, resource_type, resource_id, metadata)
        VALUES (p_organization, 'tenantry tenant move', 'organization.moved', 'organization', p_organization, metadata);
    RETURN true;
END
$$;
