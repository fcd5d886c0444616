-- Records that an identity was linked to a user or unlinked from them, and makes the dedicated
-- databases that know the user copy them again. Each records the change as well, before the
-- identity can be used there. Only functions of the owner may call it.
CREATE OR REPLACE FUNCTION auth.record_identity_change(p_user uuid, p_action text, p_issuer text, p_email text) RETURNS void
LANGUAGE plpgsql SET search_path = auth, app, pg_temp AS $$
BEGIN
    PERFORM auth.record_user_event(u.id, u.id, coalesce(u.name, u.email), p_action,
                                   jsonb_build_object('issuer', p_issuer, 'email', p_email))
        FROM auth.users u WHERE u.id = p_user;
    INSERT INTO auth.user_changes (user_id, database)
        SELECT DISTINCT p_user, substring(p.placement FROM 10)
        FROM auth.organization_members m JOIN app.placements p USING (organization_id)
        WHERE m.user_id = p_user AND p.placement ~ '^database:';
END
$$;
