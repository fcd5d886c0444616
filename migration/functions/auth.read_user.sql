-- In the control database: a user and their identities, to be copied to a dedicated database; NULL
-- when there is no such user. A transaction that may write locks the user until it ends, so that it
-- copies nothing that is outdated by then.
CREATE OR REPLACE FUNCTION auth.read_user(p_user uuid) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
BEGIN
    IF current_setting('transaction_read_only') = 'off' THEN
        PERFORM FROM auth.users u WHERE u.id = p_user FOR SHARE;
    END IF;
    RETURN (SELECT jsonb_build_object('user', to_jsonb(u), 'identities',
                       (SELECT coalesce(jsonb_agg(to_jsonb(i)), '[]') FROM auth.identities i WHERE i.user_id = u.id))
            FROM auth.users u WHERE u.id = p_user);
END
$$;
