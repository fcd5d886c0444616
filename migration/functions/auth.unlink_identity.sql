-- Takes an identity away from the user who asks with another one, which p_issuer and p_subject name.
-- UNLINKED, IN_USE, or NOT_FOUND. The last one is always the one in use.
CREATE OR REPLACE FUNCTION auth.unlink_identity(p_id uuid, p_issuer text, p_subject text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
DECLARE
    person uuid := auth.current_user_id();
    gone   record;
BEGIN
    -- Two of these wait for each other.
    PERFORM FROM auth.users u WHERE u.id = person FOR NO KEY UPDATE;
    IF NOT EXISTS (SELECT FROM auth.identities i WHERE i.issuer = p_issuer AND i.subject = p_subject AND i.user_id = person) THEN
        RETURN 'NOT_FOUND';
    END IF;
    SELECT i.issuer, i.subject, i.email INTO gone FROM auth.identities i
        WHERE i.user_id = person AND encode(substring(auth.identity_digest(i.issuer, i.subject) FOR 16), 'hex')::uuid = p_id;
    IF NOT FOUND THEN
        RETURN 'NOT_FOUND';
    END IF;
    IF (gone.issuer, gone.subject) = (p_issuer, p_subject) THEN
        RETURN 'IN_USE';
    END IF;
    -- Copies of the user made before are older than those made after.
    UPDATE auth.users u SET updated_at = now() WHERE u.id = person;
    INSERT INTO auth.unlinked_identities (identity, user_id)
        VALUES (auth.identity_digest(gone.issuer, gone.subject), person) ON CONFLICT DO NOTHING;
    DELETE FROM auth.identities i WHERE i.issuer = gone.issuer AND i.subject = gone.subject;
    PERFORM auth.record_link(person, 'user.identity_unlinked', gone.issuer, gone.email);
    RETURN 'UNLINKED';
END
$$;
REVOKE EXECUTE ON FUNCTION auth.unlink_identity FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.unlink_identity TO tenantry_app;
