-- Records that a user got an identity or lost one, and tells the dedicated databases in which the user
-- is known: each of them records it when it learns of it, before the identity can be used there. Not for
-- the app role.
CREATE OR REPLACE FUNCTION auth.record_link(p_user uuid, p_action text, p_issuer text, p_email text) RETURNS void
LANGUAGE plpgsql SET search_path = auth, app, pg_temp AS $$
BEGIN
    PERFORM auth.record_for_user(u.id, u.id, coalesce(u.name, u.email), p_action,
                                 jsonb_build_object('issuer', p_issuer, 'email', p_email))
        FROM auth.users u WHERE u.id = p_user;
    INSERT INTO auth.people_changes (user_id, database)
        SELECT DISTINCT p_user, substring(p.home FROM 10)
        FROM auth.organization_members m JOIN app.placements p USING (organization_id)
        WHERE m.user_id = p_user AND p.home ~ '^database:';
END
$$;
REVOKE EXECUTE ON FUNCTION auth.record_link FROM PUBLIC;
