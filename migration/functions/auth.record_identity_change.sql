-- Records that an identity was linked to a user or unlinked from them. The caller also changes the
-- user, so that dedicated databases copy the user again. Each of them records the change as well,
-- before the identity can be used there. Only functions of the owner may call it.
CREATE OR REPLACE FUNCTION auth.record_identity_change(p_user uuid, p_action text, p_issuer text, p_email text) RETURNS void
LANGUAGE sql SET search_path = auth, pg_temp AS $$
    SELECT auth.record_user_event(u.id, u.id, coalesce(u.name, u.email), p_action,
                                  jsonb_build_object('issuer', p_issuer, 'email', p_email))
        FROM auth.users u WHERE u.id = p_user
$$;
