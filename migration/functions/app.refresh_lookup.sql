-- Copies what openings read of an organization from its sources. A transaction changes one of them:
-- if it changed two, it could deadlock with a change of the second.
--
-- The lock comes first: a transaction that has changed another source holds it until it commits, so
-- the second statement sees that change. In a transaction with one snapshot, the lock fails instead
-- if the row was written since. The row exists as long as its organization.
CREATE OR REPLACE FUNCTION app.refresh_lookup(p_organization uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM app.organization_lookup l WHERE l.organization_id = p_organization FOR NO KEY UPDATE;
    INSERT INTO app.organization_lookup SELECT s.* FROM app.lookup_source() s WHERE s.organization_id = p_organization
        ON CONFLICT (organization_id) DO UPDATE SET
            (slug, name, created_at, updated_at, generation, billing_version, plan, status, has_subscription, period_start,
             period_end, trial_ends_at, cancel_at_period_end, past_due_since, paid_until, has_exceptions)
            = ROW(excluded.slug, excluded.name, excluded.created_at, excluded.updated_at, excluded.generation,
             excluded.billing_version, excluded.plan, excluded.status, excluded.has_subscription, excluded.period_start,
             excluded.period_end, excluded.trial_ends_at, excluded.cancel_at_period_end, excluded.past_due_since,
             excluded.paid_until, excluded.has_exceptions);
END
$$;
