-- In a dedicated database: completes a move to this database. The control database has recorded it
-- before, with this generation.
CREATE OR REPLACE FUNCTION app.accept_organization(p_organization uuid, p_generation bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
    metadata jsonb;
BEGIN
    UPDATE app.placements p
        SET placement = 'shared', moving_to = NULL, moved_at = now(), old_placement = NULL, keep_old_until = NULL
        WHERE p.organization_id = p_organization AND p.generation = p_generation AND p.placement = 'remote'
            AND p.move_metadata IS NOT NULL AND EXISTS (SELECT FROM app.database)
        RETURNING p.move_metadata INTO metadata;
    IF FOUND THEN
        PERFORM app.record_move(p_organization, metadata);
    END IF;
    RETURN FOUND;
END
$$;
