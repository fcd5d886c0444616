-- Records that a user has chosen their name, or that it follows their tokens again. Only functions
-- of the owner may call it.
CREATE OR REPLACE FUNCTION auth.record_naming(p_user uuid, p_actor_name text, p_name text) RETURNS void
LANGUAGE sql SET search_path = auth, pg_temp AS $$
    SELECT auth.record_user_event(p_user, p_user, p_actor_name, 'user.renamed',
                                  jsonb_build_object('user_id', p_user, 'name', p_name))
$$;
