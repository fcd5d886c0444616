-- In a dedicated database: stores a user and their identities as the control database has them.
CREATE OR REPLACE FUNCTION auth.copy_user(p_copy jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
DECLARE
    copied auth.users := jsonb_populate_record(NULL::auth.users, p_copy -> 'user');
    linked auth.identities[] := ARRAY(SELECT n FROM jsonb_populate_recordset(NULL::auth.identities, p_copy -> 'identities') n);
    before text := coalesce(current_setting('app.replicating', true), '');
BEGIN
    IF NOT EXISTS (SELECT FROM app.database) THEN
        RAISE 'users are copied to dedicated databases only, and this is the control database';
    END IF;
    -- Concurrent copies of one user, older or newer, wait for each other. auth.record_user_event
    -- takes shared locks on placements after this lock and after the user's row. No session that
    -- holds a placement lock exclusively in a dedicated database takes this lock or a user's row,
    -- so they cannot deadlock.
    PERFORM pg_advisory_xact_lock(auth.user_lock(copied.id));
    IF EXISTS (SELECT FROM auth.users u WHERE u.id = copied.id AND u.updated_at > copied.updated_at) THEN
        -- A newer copy was stored since this one was read.
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM auth.users u WHERE u.id = copied.id) THEN
        -- The audit logs here record a change before it takes effect here: of the user, by
        -- auth.record_user_change.
        PERFORM auth.record_identity_change(copied.id, 'user.identity_unlinked', i.issuer, i.email)
            FROM auth.identities i WHERE i.user_id = copied.id AND NOT EXISTS (
                SELECT FROM unnest(linked) n WHERE (n.issuer, n.subject) = (i.issuer, i.subject));
        PERFORM auth.record_identity_change(copied.id, 'user.identity_linked', n.issuer, n.email)
            FROM unnest(linked) n WHERE NOT EXISTS (
                SELECT FROM auth.identities i WHERE (i.issuer, i.subject, i.user_id) = (n.issuer, n.subject, copied.id));
    END IF;
    PERFORM set_config('app.replicating', 'on', true);
    -- The address may have passed from another user to this one.
    UPDATE auth.users u SET email = NULL WHERE u.email = copied.email AND u.id <> copied.id;
    INSERT INTO auth.users AS u VALUES (copied.*)
        ON CONFLICT (id) DO UPDATE SET email = excluded.email, name = excluded.name, named_at = excluded.named_at, picture = excluded.picture,
            created_at = excluded.created_at, suspended_at = excluded.suspended_at, updated_at = excluded.updated_at
        WHERE u.* IS DISTINCT FROM excluded.*;
    DELETE FROM auth.identities i WHERE i.user_id = copied.id AND NOT EXISTS (
        SELECT FROM unnest(linked) n WHERE (n.issuer, n.subject) = (i.issuer, i.subject));
    INSERT INTO auth.identities AS i SELECT * FROM unnest(linked)
        ON CONFLICT (issuer, subject) DO UPDATE SET user_id = excluded.user_id, email = excluded.email, profile = excluded.profile,
            issued_at = excluded.issued_at, not_before = excluded.not_before, updated_at = excluded.updated_at
        WHERE i.updated_at <= excluded.updated_at AND i.* IS DISTINCT FROM excluded.*;
    PERFORM set_config('app.replicating', before, true);
END
$$;
