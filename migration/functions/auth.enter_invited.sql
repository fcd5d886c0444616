-- Enters the organization of an open invitation to a verified address of the current user, found by
-- the hash of its token, in no role. All columns are NULL when there is none. A suspended organization
-- is named and not entered. The server decides whether the inviter may still invite.
DROP FUNCTION IF EXISTS auth.enter_invited;
CREATE FUNCTION auth.enter_invited(
    p_token_hash bytea, OUT organization_id uuid, OUT invitation_id uuid,
    OUT home text, OUT home_version text, OUT home_generation bigint, OUT suspension text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, app, pg_temp AS $$
DECLARE
    person uuid := auth.current_user_id();
BEGIN
    SELECT i.organization_id, i.id INTO organization_id, invitation_id
        FROM auth.invitations i
        WHERE i.token_hash = p_token_hash AND i.accepted_at IS NULL AND i.revoked_at IS NULL
          AND i.expires_at > now()
          AND (EXISTS (SELECT FROM auth.users u WHERE u.id = person AND u.email = i.email)
               OR EXISTS (SELECT FROM auth.identities s WHERE s.user_id = person AND s.email = i.email));
    SELECT p.suspension INTO suspension FROM app.placements p
        WHERE p.organization_id = enter_invited.organization_id;
    IF organization_id IS NOT NULL AND suspension IS NULL THEN
        SELECT g.* INTO home, home_version, home_generation, suspension FROM app.go_into(organization_id, person, NULL) g;
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION auth.enter_invited FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.enter_invited TO tenantry_app;
