-- Writes the row of an organization in app.organization_lookup from app.lookup_source, if it
-- differs.
--
-- Lock order: the organization's lock (its billing row), the source, this row. A transaction that
-- changes a second source, or deletes the organization, takes the organization's lock or, in
-- exclusive mode, the placement lock before the first change.
--
-- This row is locked before the sources are read: a transaction that has changed another source
-- holds the lock until it commits, so the second statement sees that change. In a transaction with
-- one snapshot, the lock fails instead if the row was written since. The row exists as long as its
-- organization.
CREATE OR REPLACE FUNCTION app.refresh_lookup(p_organization uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM app.organization_lookup l WHERE l.organization_id = p_organization FOR NO KEY UPDATE;
    INSERT INTO app.organization_lookup AS l (
            organization_id, slug, name, created_at, updated_at, generation, billing_version, plan, status, has_subscription,
            period_start, period_end, trial_ends_at, cancel_at_period_end, past_due_since, paid_until, has_exceptions)
        SELECT s.organization_id, s.slug, s.name, s.created_at, s.updated_at, s.generation, s.billing_version, s.plan, s.status,
               s.has_subscription, s.period_start, s.period_end, s.trial_ends_at, s.cancel_at_period_end, s.past_due_since,
               s.paid_until, s.has_exceptions
        FROM app.lookup_source() s WHERE s.organization_id = p_organization
        ON CONFLICT (organization_id) DO UPDATE SET
            slug = excluded.slug,
            name = excluded.name,
            created_at = excluded.created_at,
            updated_at = excluded.updated_at,
            generation = excluded.generation,
            billing_version = excluded.billing_version,
            plan = excluded.plan,
            status = excluded.status,
            has_subscription = excluded.has_subscription,
            period_start = excluded.period_start,
            period_end = excluded.period_end,
            trial_ends_at = excluded.trial_ends_at,
            cancel_at_period_end = excluded.cancel_at_period_end,
            past_due_since = excluded.past_due_since,
            paid_until = excluded.paid_until,
            has_exceptions = excluded.has_exceptions
        WHERE l IS DISTINCT FROM excluded;
END
$$;

-- The rows that app.organization_lookup must have. The slug is null unless the organization is in
-- the shared tables, not suspended and not moving. PostgreSQL inlines this function.
DROP FUNCTION IF EXISTS app.lookup_source;
CREATE FUNCTION app.lookup_source() RETURNS TABLE (
    organization_id uuid, slug text, name text, created_at timestamptz, updated_at timestamptz, generation bigint,
    billing_version timestamptz, plan text, status billing.subscription_status, has_subscription boolean,
    period_start timestamptz, period_end timestamptz, trial_ends_at timestamptz, cancel_at_period_end boolean,
    past_due_since timestamptz, paid_until timestamptz, has_exceptions boolean
) LANGUAGE sql STABLE AS $$
    SELECT o.id,
           CASE WHEN p.suspension IS NULL AND p.moving_to IS NULL
                 AND (p.placement = 'shared' OR p.placement IS NULL AND NOT EXISTS (SELECT FROM app.database)) THEN o.slug END,
           o.name, o.created_at, o.updated_at, p.generation,
           b.updated_at, b.plan, b.status, b.stripe_subscription_id IS NOT NULL, b.period_start, b.period_end,
           b.trial_ends_at, b.cancel_at_period_end, b.past_due_since, b.paid_until, b.has_exceptions
    FROM app.organizations o
        LEFT JOIN app.placements p ON p.organization_id = o.id
        LEFT JOIN billing.organization_billing b ON b.organization_id = o.id
$$;

-- Refreshes the rows that differ, for operators and for a change of app.lookup_source. It takes
-- their slugs back first, because a slug may have passed from one organization to another.
CREATE OR REPLACE FUNCTION app.refresh_stale_lookups() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    stale uuid[] := ARRAY(
        SELECT s.organization_id FROM app.lookup_source() s LEFT JOIN app.organization_lookup l USING (organization_id)
        WHERE to_jsonb(l) @> to_jsonb(s) IS NOT TRUE ORDER BY 1);
BEGIN
    PERFORM FROM app.organization_lookup l WHERE l.organization_id = ANY (stale) ORDER BY l.organization_id FOR UPDATE;
    UPDATE app.organization_lookup SET slug = NULL WHERE organization_id = ANY (stale);
    PERFORM app.refresh_lookup(id) FROM unnest(stale) id;
END
$$;
-- The rows follow a new app.lookup_source in the transaction that creates it.
SELECT app.refresh_stale_lookups();
