-- Makes sure that an identity has its user: a new one, or the one with the same verified address. Keeps
-- the address of a known identity's user up to date: an address that its owner has given up is free
-- for others, and must not join them to the former owner.
--
-- p_proof shows that a server asks, as for auth.open_request.
DROP FUNCTION IF EXISTS auth.provision_user;
CREATE FUNCTION auth.provision_user(
    p_issuer text, p_subject text, p_email text, p_name text, p_proven_at bigint, p_proof bytea
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
DECLARE
    found_id uuid;
BEGIN
    IF NOT auth.is_proven(
        concat('provision ', octet_length(p_issuer), ':', p_issuer, ' ', octet_length(p_subject), ':', p_subject,
               ' ', octet_length(p_email), ':', p_email, ' ', octet_length(p_name), ':', p_name),
        p_proven_at, p_proof)
       OR abs(extract(epoch FROM now()) - p_proven_at) > 300
    THEN
        RAISE 'no server has proven this identity' USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- Two first requests of one person wait for each other instead of leaving a user without an identity behind.
    PERFORM pg_advisory_xact_lock(hashtextextended(p_issuer || E'\n' || p_subject, 0));
    SELECT i.user_id INTO found_id FROM auth.identities i
        WHERE i.issuer = p_issuer AND i.subject = p_subject;
    IF found_id IS NOT NULL THEN
        UPDATE auth.identities i SET email = p_email
            WHERE i.issuer = p_issuer AND i.subject = p_subject AND p_email IS NOT NULL;
        -- An address that somebody else has is theirs.
        UPDATE auth.users u
            SET email = CASE WHEN EXISTS (SELECT FROM auth.users o WHERE o.email = p_email AND o.id <> found_id)
                             THEN NULL ELSE p_email END
            WHERE u.id = found_id AND p_email IS NOT NULL AND u.email IS DISTINCT FROM p_email;
        RETURN found_id;
    END IF;
    INSERT INTO auth.users (email, name) VALUES (p_email, p_name)
        ON CONFLICT (email) DO NOTHING RETURNING id INTO found_id;
    IF found_id IS NULL THEN
        SELECT u.id INTO STRICT found_id FROM auth.users u WHERE u.email = p_email;
    END IF;
    INSERT INTO auth.identities (issuer, subject, user_id, email) VALUES (p_issuer, p_subject, found_id, p_email);
    RETURN found_id;
END
$$;
REVOKE EXECUTE ON FUNCTION auth.provision_user FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.provision_user TO tenantry_app;
