-- Enters the organization of an invitation that the current user may accept, without a role. The
-- invitation is looked up by the hash of its token: it is open at p_now, the server's time; it is
-- for an address of the user, which is the user's own or p_email, verified in the request's token;
-- and its inviter may still invite to its role. All columns are NULL when there is none. The
-- function returns a suspended organization but does not enter it. The server checks all this again
-- under the organization's lock.
CREATE OR REPLACE FUNCTION auth.enter_invited_organization(
    p_token_hash bytea, p_now timestamptz DEFAULT now(), p_email text DEFAULT NULL,
    OUT organization_id uuid, OUT invitation_id uuid,
    OUT placement text, OUT placement_version text, OUT placement_generation bigint, OUT suspension text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, app, pg_temp AS $$
DECLARE
    caller_id uuid := auth.current_user_id();
BEGIN
    SELECT i.organization_id, i.id INTO organization_id, invitation_id
        FROM auth.invitations i
        WHERE i.token_hash = p_token_hash AND i.accepted_at IS NULL AND i.revoked_at IS NULL
          AND i.expires_at > greatest(p_now, now())
          AND (EXISTS (SELECT FROM auth.users u WHERE u.id = caller_id AND u.email = i.email)
               OR i.email = p_email
                  AND EXISTS (SELECT FROM auth.identities s WHERE s.user_id = caller_id AND s.email = p_email))
          AND EXISTS (SELECT FROM auth.organization_members m
                      WHERE m.organization_id = i.organization_id AND m.user_id = i.invited_by
                        AND (m.role = 'owner' OR m.role = 'admin' AND i.role IN ('viewer', 'member')));
    SELECT p.suspension INTO suspension FROM app.placements p
        WHERE p.organization_id = enter_invited_organization.organization_id;
    IF organization_id IS NOT NULL AND suspension IS NULL THEN
        SELECT s.* INTO placement, placement_version, placement_generation, suspension
            FROM app.open_session(organization_id, caller_id, NULL) s;
    END IF;
END
$$;
