-- Stores a Stripe event before it is applied; true when it was applied before.
CREATE OR REPLACE FUNCTION billing.receive_stripe_event(p_id text, p_type text, p_created timestamptz, p_payload jsonb) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = billing, pg_temp AS $$
    INSERT INTO billing.stripe_events AS e (id, type, created, payload, attempts)
        VALUES (p_id, p_type, p_created, p_payload, 1)
        ON CONFLICT (id) DO UPDATE SET attempts = e.attempts + 1
        RETURNING processed_at IS NOT NULL
$$;
