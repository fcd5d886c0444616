-- Unlinks an identity from the current user, who is signed in with the identity of p_issuer and
-- p_subject. Returns UNLINKED, IN_USE (it is that identity, so that one always remains) or
-- NOT_FOUND.
CREATE OR REPLACE FUNCTION auth.unlink_identity(p_id uuid, p_issuer text, p_subject text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
DECLARE
    caller_id uuid := auth.current_user_id();
    unlinked  record;
BEGIN
    -- Before the user's row: a move locks its members while it holds the placement.
    PERFORM pg_advisory_xact_lock_shared(app.placement_lock(m.organization_id))
        FROM (SELECT o.organization_id FROM auth.organization_members o WHERE o.user_id = caller_id ORDER BY 1) m;
    -- Concurrent calls for one user wait for each other.
    PERFORM FROM auth.users u WHERE u.id = caller_id FOR NO KEY UPDATE;
    IF NOT EXISTS (SELECT FROM auth.identities i WHERE i.issuer = p_issuer AND i.subject = p_subject AND i.user_id = caller_id) THEN
        RETURN 'NOT_FOUND';
    END IF;
    SELECT i.issuer, i.subject, i.email INTO unlinked FROM auth.identities i
        WHERE i.user_id = caller_id AND encode(substring(auth.identity_digest(i.issuer, i.subject) FOR 16), 'hex')::uuid = p_id;
    IF NOT FOUND THEN
        RETURN 'NOT_FOUND';
    END IF;
    IF (unlinked.issuer, unlinked.subject) = (p_issuer, p_subject) THEN
        RETURN 'IN_USE';
    END IF;
    -- A copy of the user that was read before is outdated.
    UPDATE auth.users u SET updated_at = now() WHERE u.id = caller_id;
    INSERT INTO auth.unlinked_identities (identity, user_id)
        VALUES (auth.identity_digest(unlinked.issuer, unlinked.subject), caller_id) ON CONFLICT DO NOTHING;
    DELETE FROM auth.identities i WHERE i.issuer = unlinked.issuer AND i.subject = unlinked.subject;
    PERFORM auth.record_identity_change(caller_id, 'user.identity_unlinked', unlinked.issuer, unlinked.email);
    RETURN 'UNLINKED';
END
$$;
