-- Stores the response of an idempotency key of the current user. p_organization is the organization
-- that the request names, as in auth.claim_idempotency_key.
CREATE OR REPLACE FUNCTION auth.store_response(p_organization uuid, p_key text, p_response bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
    UPDATE auth.idempotency_keys SET response = p_response
        WHERE user_id = auth.current_user_id() AND key = p_key AND organization_id IS NOT DISTINCT FROM p_organization
$$;
