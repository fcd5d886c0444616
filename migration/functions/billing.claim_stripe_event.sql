-- Locks and returns a Stripe event. Concurrent deliveries of the same event wait.
CREATE OR REPLACE FUNCTION billing.claim_stripe_event(p_id text)
RETURNS TABLE (payload jsonb, processed boolean)
LANGUAGE sql SECURITY DEFINER SET search_path = billing, pg_temp AS $$
    SELECT e.payload, e.processed_at IS NOT NULL FROM billing.stripe_events e WHERE e.id = p_id FOR UPDATE
$$;
