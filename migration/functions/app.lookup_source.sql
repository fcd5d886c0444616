-- The rows that app.organization_lookup must have. PostgreSQL inlines this function.
CREATE OR REPLACE FUNCTION app.lookup_source() RETURNS SETOF app.organization_lookup
LANGUAGE sql STABLE AS $$
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
