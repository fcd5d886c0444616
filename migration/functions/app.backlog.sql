-- How many e-mails, changes of seats and Stripe events are unprocessed, and since when.
CREATE OR REPLACE FUNCTION app.backlog(
    OUT emails bigint, OUT oldest_email timestamptz, OUT seats bigint, OUT oldest_seats timestamptz,
    OUT stripe_events bigint, OUT oldest_stripe_event timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, billing, pg_temp AS $$
    SELECT o.emails, o.oldest_email, o.seats, o.oldest_seats, e.count, e.oldest
    FROM (SELECT count(*) FILTER (WHERE kind = 'invitation_mail') AS emails,
                 min(created_at) FILTER (WHERE kind = 'invitation_mail') AS oldest_email,
                 -- The expiry of an invitation is due in the future.
                 count(*) FILTER (WHERE kind = 'stripe_seats' AND (attempts > 0 OR due_at <= now())) AS seats,
                 min(created_at) FILTER (WHERE kind = 'stripe_seats' AND (attempts > 0 OR due_at <= now())) AS oldest_seats
              FROM app.outbox WHERE processed_at IS NULL AND due_at IS NOT NULL) o,
         (SELECT count(*), min(received_at) AS oldest FROM billing.stripe_events WHERE processed_at IS NULL) e
$$;
