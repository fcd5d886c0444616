-- Stores the result of a Stripe event. p_done: it is processed, for the reason in p_text or (NULL)
-- because it was applied. Otherwise it failed with the error in p_text, and Stripe sends it again.
CREATE OR REPLACE FUNCTION billing.finish_stripe_event(p_id text, p_text text, p_done boolean) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = billing, pg_temp AS $$
    UPDATE billing.stripe_events
        SET error = p_text, processed_at = CASE WHEN p_done THEN now() ELSE processed_at END
        WHERE id = p_id
$$;
