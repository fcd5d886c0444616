-- In a dedicated database: stores a user and their identities as the control database has them.
DROP FUNCTION IF EXISTS auth.bring_person;
CREATE FUNCTION auth.bring_person(p_person jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
DECLARE
    person auth.users := jsonb_populate_record(NULL::auth.users, p_person -> 'user');
    known auth.users;
    before text := coalesce(current_setting('app.copying', true), '');
BEGIN
    IF NOT EXISTS (SELECT FROM app.database) THEN
        RAISE 'people are not brought to the control database';
    END IF;
    -- Whoever brings the same person meanwhile, with news that are older or younger, waits.
    PERFORM pg_advisory_xact_lock(hashtextextended('person ' || person.id::text, 0));
    IF EXISTS (SELECT FROM auth.users u WHERE u.id = person.id AND u.updated_at > person.updated_at) THEN
        -- Somebody has brought younger news since these were read.
        RETURN;
    END IF;
    SELECT * INTO known FROM auth.users u WHERE u.id = person.id;
    IF FOUND THEN
        -- What happened to a user is in the audit logs here before it counts here.
        PERFORM auth.record_link(person.id, 'user.identity_unlinked', i.issuer, i.email)
            FROM auth.identities i WHERE i.user_id = person.id AND NOT EXISTS (
                SELECT FROM jsonb_populate_recordset(NULL::auth.identities, p_person -> 'identities') n
                    WHERE (n.issuer, n.subject) = (i.issuer, i.subject));
        PERFORM auth.record_link(person.id, 'user.identity_linked', n.issuer, n.email)
            FROM jsonb_populate_recordset(NULL::auth.identities, p_person -> 'identities') n WHERE NOT EXISTS (
                SELECT FROM auth.identities i WHERE (i.issuer, i.subject, i.user_id) = (n.issuer, n.subject, person.id));
        IF (known.suspended_at IS NULL) <> (person.suspended_at IS NULL) THEN
            PERFORM auth.record_suspension(person.id, person.suspended_at IS NOT NULL);
        END IF;
    END IF;
    PERFORM set_config('app.copying', 'on', true);
    -- Addresses go from one person to another.
    UPDATE auth.users u SET email = NULL WHERE u.email = person.email AND u.id <> person.id;
    INSERT INTO auth.users AS u VALUES (person.*)
        ON CONFLICT (id) DO UPDATE SET email = excluded.email, name = excluded.name, suspended_at = excluded.suspended_at,
            updated_at = excluded.updated_at
        WHERE (u.email, u.name, u.suspended_at, u.updated_at)
            IS DISTINCT FROM (excluded.email, excluded.name, excluded.suspended_at, excluded.updated_at);
    DELETE FROM auth.identities i WHERE i.user_id = person.id AND NOT EXISTS (
        SELECT FROM jsonb_populate_recordset(NULL::auth.identities, p_person -> 'identities') n
            WHERE (n.issuer, n.subject) = (i.issuer, i.subject));
    INSERT INTO auth.identities AS i SELECT * FROM jsonb_populate_recordset(NULL::auth.identities, p_person -> 'identities')
        ON CONFLICT (issuer, subject) DO UPDATE SET user_id = excluded.user_id, email = excluded.email, issued_at = excluded.issued_at,
            not_before = excluded.not_before, updated_at = excluded.updated_at
        WHERE i.updated_at <= excluded.updated_at
            AND (i.user_id, i.email, i.issued_at, i.not_before)
                IS DISTINCT FROM (excluded.user_id, excluded.email, excluded.issued_at, excluded.not_before);
    PERFORM set_config('app.copying', before, true);
END
$$;
REVOKE EXECUTE ON FUNCTION auth.bring_person FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.bring_person TO tenantry_system;
