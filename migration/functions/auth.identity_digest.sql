-- Identifies an identity without revealing it.
CREATE OR REPLACE FUNCTION auth.identity_digest(p_issuer text, p_subject text) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(convert_to(octet_length(p_issuer) || ':' || p_issuer || p_subject, 'UTF8'))
$$;
