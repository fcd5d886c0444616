-- Takes a key of the current user in the current organization for the rest of the transaction; another
-- request with the same key waits here. A key is free again after a day, and after p_patience when the
-- request that took it left it unfinished.
-- outcome: CLAIMED, REPLAY (with the answer that was kept), OTHER (it was another request), RUNNING.
DROP FUNCTION IF EXISTS auth.claim_idempotency_key;
CREATE FUNCTION auth.claim_idempotency_key(
    p_key text, p_fingerprint bytea, p_patience interval, OUT outcome text, OUT kept bytea
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
DECLARE
    person       uuid := auth.current_user_id();
    organization uuid := app.current_organization();
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
REVOKE EXECUTE ON FUNCTION auth.claim_idempotency_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.claim_idempotency_key TO tenantry_app;
