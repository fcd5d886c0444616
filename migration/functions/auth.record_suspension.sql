-- Records that the operator has suspended or resumed a user. Only functions of the owner may call
-- it.
CREATE OR REPLACE FUNCTION auth.record_suspension(p_user uuid, p_suspended boolean) RETURNS void
LANGUAGE sql SET search_path = auth, pg_temp AS $$
    SELECT auth.record_user_event(
        u.id, NULL, CASE WHEN p_suspended THEN 'tenantry user suspend' ELSE 'tenantry user resume' END,
        CASE WHEN p_suspended THEN 'user.suspended' ELSE 'user.resumed' END,
        jsonb_build_object('user_id', u.id, 'name', coalesce(u.name, u.email)))
    FROM auth.users u WHERE u.id = p_user
$$;
