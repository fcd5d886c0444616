-- Claims an idempotency key of the current user for the rest of the transaction. p_organization is
-- the organization that the request names: the mutation may have entered another one. A concurrent
-- request with the same key waits. A key expires after 24 hours, and after p_timeout when its
-- request stored no response.
-- outcome: CLAIMED, REPLAY (with the stored response), OTHER (the key belongs to another request),
-- RUNNING.
CREATE OR REPLACE FUNCTION auth.claim_idempotency_key(
    p_key text, p_fingerprint bytea, p_timeout interval,
    p_organization uuid DEFAULT app.current_organization(), OUT outcome text, OUT response bytea
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
DECLARE
    caller_id uuid := auth.current_user_id();
    known     bytea;
BEGIN
    INSERT INTO auth.idempotency_keys AS k (user_id, organization_id, key, fingerprint)
        VALUES (caller_id, p_organization, p_key, p_fingerprint)
        ON CONFLICT (user_id, key, organization_id)
        DO UPDATE SET fingerprint = excluded.fingerprint, response = NULL, created_at = now()
        WHERE k.created_at < now() - interval '24 hours'
           OR (k.response IS NULL AND k.created_at < now() - p_timeout);
    IF FOUND THEN
        outcome := 'CLAIMED';
        RETURN;
    END IF;
    SELECT k.fingerprint, k.response INTO STRICT known, response FROM auth.idempotency_keys k
        WHERE k.user_id = caller_id AND k.key = p_key AND k.organization_id IS NOT DISTINCT FROM p_organization;
    outcome := CASE WHEN known <> p_fingerprint THEN 'OTHER' WHEN response IS NULL THEN 'RUNNING' ELSE 'REPLAY' END;
    IF outcome <> 'REPLAY' THEN
        response := NULL;
    END IF;
END
$$;
