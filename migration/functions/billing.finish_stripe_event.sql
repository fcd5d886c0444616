-- Keeps what became of an event of Stripe: it is done with, for the reason in p_text or (NULL) because
-- it was applied, or it failed with the error in p_text and comes again.
DROP FUNCTION IF EXISTS billing.finish_stripe_event;
CREATE FUNCTION billing.finish_stripe_event(p_id text, p_text text, p_done boolean DEFAULT NULL) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = billing, pg_temp AS $$
    UPDATE billing.stripe_events
        SET error = p_text,
            -- Servers of earlier versions pass two arguments.
            processed_at = CASE WHEN coalesce(p_done, p_text IS NULL) THEN now() ELSE processed_at END
        WHERE id = p_id
$$;
REVOKE EXECUTE ON FUNCTION billing.finish_stripe_event FROM PUBLIC;
GRANT EXECUTE ON FUNCTION billing.finish_stripe_event TO tenantry_system;
