-- Ensures that an identity has a user: a new user, or the one with the same verified address if
-- p_linking ('never', 'same-issuer', 'verified-email') allows that. Updates the address of a known
-- identity's user, so that another user can have an address that its former user has given up.
--
-- A token changes nothing unless it is newer than the last token recorded. A token without a time
-- of issue changes nothing either: addresses pass from user to user, and only the newest token
-- proves who has one now. A token is recorded if it changes the address or is more than a minute
-- newer than the last one. Returns NULL when the token was issued before its user was erased.
--
-- p_profile is a JSON object with the name and the picture in the token, or NULL. The user gets
-- both when they change in the tokens of one identity, except a name that the user has chosen. The
-- first profile of an identity always counts, and a later one if its token is newer.
--
-- p_proof shows that a server is calling, as for auth.open_request.
CREATE OR REPLACE FUNCTION auth.provision_user(
    p_issuer text, p_subject text, p_email text, p_profile text, p_issued_at timestamptz, p_linking text,
    p_proven_at bigint, p_proof bytea
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
DECLARE
    issued_micros text := (extract(epoch FROM p_issued_at) * 1000000)::bigint;
    found_id uuid;
    known_at timestamptz;
    known    text;
    changes  boolean;
    given    jsonb := p_profile;
    known_profile jsonb;
    records  boolean;
    names    boolean;
    erased   timestamptz;
    holder   uuid;
BEGIN
    -- As in auth.open_request, which did not run in this transaction.
    RESET ALL;
    IF NOT auth.is_proven(
        concat('provision ', octet_length(p_issuer), ':', p_issuer, ' ', octet_length(p_subject), ':', p_subject,
               ' ', octet_length(p_email), ':', p_email, ' ', octet_length(p_profile), ':', p_profile,
               ' ', octet_length(issued_micros), ':', issued_micros, ' ', octet_length(p_linking), ':', p_linking),
        p_proven_at, p_proof)
       OR abs(extract(epoch FROM now()) - p_proven_at) > 300
    THEN
        RAISE 'the identity lacks the proof of a server' USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- Concurrent first requests of one identity, or with one address, wait for each other.
    -- Otherwise one of them could leave a user without an identity.
    PERFORM pg_advisory_xact_lock(hashtextextended(p_issuer || E'\n' || p_subject, 0));
    IF p_email IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('address ' || p_email, 0));
    END IF;
    SELECT i.user_id, coalesce(i.issued_at, i.updated_at), i.email, i.profile
        INTO found_id, known_at, known, known_profile FROM auth.identities i
        WHERE i.issuer = p_issuer AND i.subject = p_subject;
    IF found_id IS NOT NULL THEN
        changes := p_email IS NOT NULL AND p_email IS DISTINCT FROM known;
        names := given IS NOT NULL AND NOT coalesce(known_profile, '{}') @> given;
        records := coalesce(p_issued_at > known_at AND (changes OR names OR p_issued_at > known_at + interval '1 minute'), false);
        names := names AND (records OR known_profile IS NULL);
        -- Before the identity, as a suspension, which is copied from the user to its identities.
        PERFORM FROM auth.users u WHERE u.id = found_id AND (names OR records) FOR NO KEY UPDATE;
        IF names THEN
            UPDATE auth.identities i SET profile = coalesce(known_profile, '{}') || given
                WHERE i.issuer = p_issuer AND i.subject = p_subject;
            UPDATE auth.users u
                SET name = CASE WHEN u.named_at IS NULL THEN coalesce(given ->> 'name', u.name) ELSE u.name END,
                    picture = coalesce(given ->> 'picture', u.picture)
                WHERE u.id = found_id;
        END IF;
        IF NOT records THEN
            RETURN found_id;
        END IF;
        UPDATE auth.identities i SET email = coalesce(p_email, i.email), issued_at = p_issued_at
            WHERE i.issuer = p_issuer AND i.subject = p_subject;
        -- An address that another user has stays with that user.
        UPDATE auth.users u
            SET email = CASE WHEN EXISTS (SELECT FROM auth.users o WHERE o.email = p_email AND o.id <> found_id)
                             THEN NULL ELSE p_email END
            WHERE changes AND u.id = found_id AND u.email IS DISTINCT FROM p_email;
        RETURN found_id;
    END IF;
    SELECT e.erased_at INTO erased FROM auth.erased_identities e
        WHERE e.identity = auth.identity_digest(p_issuer, p_subject);
    IF erased IS NOT NULL AND (p_issued_at IS NULL OR p_issued_at <= erased) THEN
        RETURN NULL;
    END IF;
    SELECT u.id INTO holder FROM auth.users u WHERE u.email = p_email;
    IF holder IS NOT NULL AND p_linking IN ('same-issuer', 'verified-email') AND NOT EXISTS (
        SELECT FROM auth.unlinked_identities n
            WHERE n.identity = auth.identity_digest(p_issuer, p_subject) AND n.user_id = holder
    ) AND p_issued_at > (
        -- When an older token was issued, the address may have belonged to another user.
        SELECT CASE WHEN p_linking = 'verified-email' OR bool_or(i.issuer = p_issuer)
                    THEN coalesce(max(coalesce(i.issued_at, i.updated_at)), '-infinity') END
        FROM auth.identities i WHERE i.user_id = holder AND i.email = p_email
    ) THEN
        found_id := holder;
        -- Before the user's row: a move locks its members while it holds the placement.
        PERFORM pg_advisory_xact_lock_shared(app.placement_lock(m.organization_id))
            FROM (SELECT o.organization_id FROM auth.organization_members o WHERE o.user_id = holder ORDER BY 1) m;
        -- A copy of the user that was read before is outdated.
        UPDATE auth.users u
            SET name = coalesce(u.name, given ->> 'name'), picture = coalesce(u.picture, given ->> 'picture'), updated_at = now()
            WHERE u.id = holder;
    ELSE
        INSERT INTO auth.users (email, name, picture)
            VALUES (CASE WHEN holder IS NULL THEN p_email END, given ->> 'name', given ->> 'picture') RETURNING id INTO found_id;
    END IF;
    INSERT INTO auth.identities (issuer, subject, user_id, email, profile, issued_at, not_before)
        VALUES (p_issuer, p_subject, found_id, p_email, given, p_issued_at, erased);
    IF found_id = holder THEN
        PERFORM auth.record_identity_change(found_id, 'user.identity_linked', p_issuer, p_email);
    END IF;
    RETURN found_id;
END
$$;
