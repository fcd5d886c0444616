-- Adds to the calls that organizations have used in a month, and returns the new sums. Each
-- organization appears once; its row stays locked until the transaction ends. Negative numbers
-- return leased calls.
--
-- The result lacks each organization that has to be written alone: it is not in the shared tables,
-- or another transaction moves it, deletes it, changes its slug or writes its calls. The function
-- waits for one transaction only, for at most 200 ms: another server's that creates the same row.
CREATE OR REPLACE FUNCTION billing.add_calls(
    p_feature text, p_organizations uuid[], p_period_starts timestamptz[], p_calls bigint[]
) RETURNS TABLE (organization_id uuid, used bigint)
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '200ms' SET search_path = billing, app, pg_temp AS $$
#variable_conflict use_column
DECLARE
    here uuid[];
BEGIN
    here := ARRAY(SELECT o FROM unnest(p_organizations) o WHERE pg_try_advisory_xact_lock_shared(app.placement_lock(o)));
    -- Only under the locks do the placements stay as they are read.
    here := ARRAY(SELECT o.id FROM app.organizations o LEFT JOIN app.placements p ON p.organization_id = o.id
                  WHERE o.id = ANY(here) AND coalesce(p.placement, 'shared') = 'shared');
    -- app.record_change then looks at all rows, and records those of the organizations that move.
    IF EXISTS (SELECT FROM app.placements p WHERE p.organization_id = ANY(here) AND p.moving_to IS NOT NULL) THEN
        PERFORM set_config('app.moving', 'on', true);
    END IF;
    -- In one order on all servers: two of them may create rows of the same organizations. The lock
    -- is the one of the foreign key, which would wait for it.
    INSERT INTO billing.usage (organization_id, feature, period_start)
        SELECT o.id, p_feature, a.period_start
        FROM unnest(p_organizations, p_period_starts) a (organization, period_start)
            JOIN app.organizations o ON o.id = a.organization
        WHERE o.id = ANY(here) AND NOT EXISTS (
            SELECT FROM billing.usage u
            WHERE u.organization_id = o.id AND u.feature = p_feature AND u.period_start = a.period_start)
        ORDER BY o.id FOR KEY SHARE OF o SKIP LOCKED
        ON CONFLICT DO NOTHING;
    RETURN QUERY
        WITH added AS MATERIALIZED (
            SELECT u.organization_id, u.period_start, a.calls
            FROM unnest(p_organizations, p_period_starts, p_calls) a (organization, period_start, calls)
                JOIN billing.usage u ON u.organization_id = a.organization AND u.feature = p_feature
                    AND u.period_start = a.period_start
            WHERE a.organization = ANY(here)
            FOR UPDATE OF u SKIP LOCKED)
        UPDATE billing.usage u SET used = greatest(u.used + a.calls, 0) FROM added a
            WHERE u.organization_id = a.organization_id AND u.feature = p_feature AND u.period_start = a.period_start
            RETURNING u.organization_id, u.used;
END
$$;
