-- Whether a server with a registered key created the proof of this message at this time (Unix
-- seconds): HMAC-SHA256 with the key's two padded blocks (RFC 2104). Hashes are compared instead of
-- the codes, so that the duration of the comparison reveals nothing about the code. Only functions
-- of the owner may call it.
CREATE OR REPLACE FUNCTION auth.is_proven(p_message text, p_issued_at bigint, p_proof bytea) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    message bytea := convert_to(concat(p_issued_at, ' ', p_message), 'UTF8');
BEGIN
    RETURN EXISTS (
        SELECT FROM auth.proof_keys k
        WHERE k.updated_at > now() - interval '30 days'
          AND sha256(p_proof) = sha256(sha256(k.outer_block || sha256(k.inner_block || message))));
END
$$;
