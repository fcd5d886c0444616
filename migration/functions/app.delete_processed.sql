-- Deletes processed rows: of the outbox after 30 days, Stripe events, which may name people, after
-- 90, idempotency keys after 24 hours. Rows of an organization that is being moved stay. Rows of a
-- dedicated schema are deleted there.
CREATE OR REPLACE FUNCTION app.delete_processed() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, billing, auth, pg_temp AS $$
DECLARE
    old     CONSTANT text := $q$(processed_at < now() - interval '30 days'
        OR (due_at IS NULL AND processed_at IS NULL AND created_at < now() - interval '30 days'))$q$;
    deleted bigint := 0;
    count   bigint;
    owned   text;
BEGIN
    EXECUTE 'DELETE FROM app.outbox o WHERE ' || old || ' AND NOT EXISTS (
        SELECT FROM app.placements p WHERE p.organization_id = o.organization_id
            AND (p.placement <> ''shared'' OR p.moving_to IS NOT NULL))';
    GET DIAGNOSTICS count = ROW_COUNT;
    deleted := deleted + count;
    FOR owned IN EXECUTE 'SELECT DISTINCT app.placement_schema(p.organization_id)
        FROM app.outbox o JOIN app.placements p USING (organization_id)
        WHERE p.placement = ''schema'' AND p.moving_to IS NULL AND ' || replace(old, 'created_at', 'o.created_at')
    LOOP
        EXECUTE format('DELETE FROM %I.outbox WHERE ', owned) || old;
        GET DIAGNOSTICS count = ROW_COUNT;
        deleted := deleted + count;
    END LOOP;
    DELETE FROM billing.stripe_events WHERE processed_at < now() - interval '90 days';
    GET DIAGNOSTICS count = ROW_COUNT;
    deleted := deleted + count;
    DELETE FROM auth.idempotency_keys WHERE created_at < now() - interval '24 hours';
    GET DIAGNOSTICS count = ROW_COUNT;
    RETURN deleted + count;
END
$$;
