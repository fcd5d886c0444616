//! Keys with which a client repeats a mutation without doing it twice, and a look at what waits to
//! be done.
//!
//! The answers that are kept are read and written through two functions alone, which look only at
//! what the person of the current transaction kept in the current organization.

use crate::rls::{self, Verb};

crate::step!("m0012_reliability", sql());

const TABLE: &str = r"
CREATE TABLE auth.idempotency_keys (
    user_id         uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
    -- NULL: outside of any organization. No foreign key, which would lock the organization's row before its lock is taken.
    organization_id uuid,
    key             text NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    -- SHA-256 of what was asked.
    fingerprint     bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    -- Sealed by the server. NULL: the mutation has committed a part, and goes on.
    response        bytea,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (user_id, key, organization_id)
);
CREATE INDEX idempotency_keys_organization ON auth.idempotency_keys (organization_id);
CREATE INDEX idempotency_keys_created ON auth.idempotency_keys (created_at);
";

const FUNCTIONS: &str = r"
-- Takes a key for the rest of the transaction; whoever comes with the same one meanwhile waits here. What is older than a day counts
-- no more, and neither does what was left unfinished for as long as p_patience.
-- outcome: CLAIMED, REPLAY (with the answer that was kept), OTHER (it was another request), RUNNING.
CREATE FUNCTION auth.claim_idempotency_key(
    p_key text, p_fingerprint bytea, p_patience interval, OUT outcome text, OUT kept bytea
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
DECLARE
    person       uuid := nullif(current_setting('app.current_user_id', true), '')::uuid;
    organization uuid := nullif(current_setting('app.current_org_id', true), '')::uuid;
    known        bytea;
BEGIN
    INSERT INTO auth.idempotency_keys AS k (user_id, organization_id, key, fingerprint)
        VALUES (person, organization, p_key, p_fingerprint)
        ON CONFLICT (user_id, key, organization_id)
        DO UPDATE SET fingerprint = excluded.fingerprint, response = NULL, created_at = now()
        WHERE k.created_at < now() - interval '24 hours'
           OR (k.response IS NULL AND k.created_at < now() - p_patience);
    IF FOUND THEN
        outcome := 'CLAIMED';
        RETURN;
    END IF;
    SELECT k.fingerprint, k.response INTO STRICT known, kept FROM auth.idempotency_keys k
        WHERE k.user_id = person AND k.key = p_key AND k.organization_id IS NOT DISTINCT FROM organization;
    outcome := CASE WHEN known <> p_fingerprint THEN 'OTHER' WHEN kept IS NULL THEN 'RUNNING' ELSE 'REPLAY' END;
    IF outcome <> 'REPLAY' THEN
        kept := NULL;
    END IF;
END
$$;

-- Keeps the answer with its key; p_organization is where the request began, which the mutation may have left since.
CREATE FUNCTION auth.keep_response(p_organization uuid, p_key text, p_response bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
    UPDATE auth.idempotency_keys SET response = p_response
        WHERE user_id = nullif(current_setting('app.current_user_id', true), '')::uuid
          AND key = p_key AND organization_id IS NOT DISTINCT FROM p_organization
$$;

-- What waits to be done, and since when: letters, and events of Stripe's.
CREATE FUNCTION app.backlog(
    OUT letters bigint, OUT oldest_letter timestamptz, OUT stripe_events bigint, OUT oldest_stripe_event timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, billing, pg_temp AS $$
    SELECT o.count, o.oldest, e.count, e.oldest
    FROM (SELECT count(*), min(created_at) AS oldest FROM app.outbox
              WHERE processed_at IS NULL AND due_at IS NOT NULL) o,
         (SELECT count(*), min(received_at) AS oldest FROM billing.stripe_events WHERE processed_at IS NULL) e
$$;

-- As before, and keys that count no more.
CREATE OR REPLACE FUNCTION app.forget_processed() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = app, billing, auth, pg_temp AS $$
    WITH letters AS (DELETE FROM app.outbox WHERE processed_at < now() - interval '30 days' RETURNING 1),
         intents AS (DELETE FROM app.outbox WHERE due_at IS NULL AND created_at < now() - interval '30 days'
                                              AND processed_at IS NULL RETURNING 1),
         events AS (DELETE FROM billing.stripe_events WHERE processed_at < now() - interval '90 days' RETURNING 1),
         keys AS (DELETE FROM auth.idempotency_keys WHERE created_at < now() - interval '24 hours' RETURNING 1)
    SELECT (SELECT count(*) FROM letters) + (SELECT count(*) FROM intents) + (SELECT count(*) FROM events)
           + (SELECT count(*) FROM keys)
$$;

REVOKE EXECUTE ON FUNCTION auth.claim_idempotency_key, auth.keep_response, app.backlog FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.claim_idempotency_key, auth.keep_response, app.backlog TO tenantry_app;
";

fn sql() -> String {
    [
        TABLE.to_owned(),
        rls::protect("auth.idempotency_keys"),
        rls::touch("auth.idempotency_keys"),
        rls::definer(
            "auth.idempotency_keys",
            &[Verb::Select, Verb::Insert, Verb::Update, Verb::Delete],
        ),
        FUNCTIONS.to_owned(),
    ]
    .concat()
}
