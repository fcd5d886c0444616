-- In the control database: completes a move from a dedicated database to the shared tables. The
-- dedicated database has released the organization before, for this generation, after all rows were
-- copied.
CREATE OR REPLACE FUNCTION app.accept_returned_organization(p_organization uuid, p_generation bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
    metadata jsonb;
BEGIN
    UPDATE app.placements p
        SET placement = 'shared', moving_to = NULL, moved_at = now(), generation = p_generation,
            old_placement = p.placement, keep_old_until = coalesce(p.keep_old_until, now() + interval '7 days')
        WHERE p.organization_id = p_organization AND p.generation = p_generation - 1 AND p.placement ~ '^database:'
            AND p.moving_to = 'shared' AND p.move_metadata IS NOT NULL
        RETURNING p.move_metadata INTO metadata;
    IF FOUND THEN
        PERFORM app.record_move(p_organization, metadata);
    END IF;
    RETURN FOUND;
END
$$;
