-- Due rows of the outbox, oldest first, except those of organizations in the dedicated databases
-- p_except.
CREATE OR REPLACE FUNCTION app.due_outbox(p_kind text, p_now timestamptz, p_limit integer, p_except text[])
RETURNS TABLE (organization_id uuid, id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
    SELECT o.organization_id, o.id FROM app.outbox o
        WHERE o.processed_at IS NULL AND o.due_at <= p_now AND o.kind = p_kind
            AND (p_except = '{}' OR NOT EXISTS (
                SELECT FROM app.placements p
                WHERE p.organization_id = o.organization_id AND substring(p.placement FROM '^database:(.*)') = ANY (p_except)))
        ORDER BY o.due_at LIMIT p_limit
$$;
