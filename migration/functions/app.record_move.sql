-- Records a completed move in the organization's audit log, once: a later move brings its own
-- metadata.
CREATE OR REPLACE FUNCTION app.record_move(p_organization uuid, p_metadata jsonb) RETURNS void
LANGUAGE sql SET search_path = app, audit, pg_temp AS $$
    UPDATE app.placements SET move_metadata = NULL WHERE organization_id = p_organization;
    INSERT INTO audit.audit_logs (organization_id, actor_name, action, resource_type, resource_id, metadata)
        VALUES (p_organization, 'tenantry tenant move', 'organization.moved', 'organization', p_organization, coalesce(p_metadata, '{}'))
$$;
