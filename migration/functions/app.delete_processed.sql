-- Deletes processed rows: of the outbox after 30 days, Stripe events, which may name people, after
-- 90, idempotency keys after 24 hours. Rows of an organization that is being moved stay. Rows of a
-- dedicated schema are deleted there.
CREATE OR REPLACE FUNCTION app.delete_processed() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, billing, auth, pg_temp AS $$
DECLARE
    deleted bigint := 0;
    number  bigint;
    expired record;
BEGIN
    FOR expired IN
        SELECT CASE p.placement WHEN 'schema' THEN app.placement_schema(o.organization_id) ELSE 'app' END AS schema_name,
               array_agg(o.organization_id) AS organizations, array_agg(o.id) AS ids
        FROM app.outbox o LEFT JOIN app.placements p USING (organization_id)
        -- The writer itself processes a row without due_at, and has not recorded that.
        WHERE coalesce(o.processed_at, CASE WHEN o.due_at IS NULL THEN o.created_at END) < now() - interval '30 days'
            AND coalesce(p.placement, 'shared') IN ('shared', 'schema') AND p.moving_to IS NULL
        GROUP BY 1
    LOOP
        EXECUTE format('DELETE FROM %I.outbox WHERE (organization_id, id) IN (SELECT * FROM unnest($1, $2))', expired.schema_name)
            USING expired.organizations, expired.ids;
        GET DIAGNOSTICS number = ROW_COUNT;
        deleted := deleted + number;
    END LOOP;
    DELETE FROM billing.stripe_events WHERE processed_at < now() - interval '90 days';
    GET DIAGNOSTICS number = ROW_COUNT;
    deleted := deleted + number;
    DELETE FROM auth.idempotency_keys WHERE created_at < now() - interval '24 hours';
    GET DIAGNOSTICS number = ROW_COUNT;
    RETURN deleted + number;
END
$$;
