-- How many e-mails and Stripe events are unprocessed, and since when.
CREATE OR REPLACE FUNCTION app.backlog(
    OUT emails bigint, OUT oldest_email timestamptz, OUT stripe_events bigint, OUT oldest_stripe_event timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, billing, pg_temp AS $$
    SELECT o.count, o.oldest, e.count, e.oldest
    FROM (SELECT count(*), min(created_at) AS oldest FROM app.outbox
              WHERE processed_at IS NULL AND due_at IS NOT NULL) o,
         (SELECT count(*), min(received_at) AS oldest FROM billing.stripe_events WHERE processed_at IS NULL) e
$$;
