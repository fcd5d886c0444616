-- In the control database: the open invitation whose token has this hash, or without a hash those
-- to an address of the current user, newest first. The server checks whether the inviter, whose
-- present role is returned, may still invite, and whether the address is verified.
CREATE OR REPLACE FUNCTION auth.find_invitations(p_token_hash bytea)
RETURNS TABLE (id uuid, token_hash bytea, organization_name text, inviter_name text, inviter_role text, role text, email text,
               expires_at timestamptz, user_email text, is_member boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = auth, app, pg_temp AS $$
    SELECT i.id, i.token_hash, o.name, n.name, n.role::text, i.role::text, i.email, i.expires_at, c.email,
           EXISTS (SELECT FROM auth.organization_members m WHERE m.organization_id = i.organization_id AND m.user_id = c.id)
        FROM auth.users c
            JOIN LATERAL (
                SELECT t.* FROM auth.invitations t WHERE t.token_hash = p_token_hash
                UNION ALL
                SELECT e.* FROM auth.invitations e
                    WHERE p_token_hash IS NULL AND e.accepted_at IS NULL AND e.revoked_at IS NULL
                      AND lower(e.email) = ANY (ARRAY(SELECT c.email UNION ALL SELECT s.email FROM auth.identities s WHERE s.user_id = c.id))
            ) i ON true
            JOIN app.organizations o ON o.id = i.organization_id
            JOIN LATERAL (SELECT u.name, m.role FROM auth.organization_members m JOIN auth.users u ON u.id = m.user_id
                          WHERE m.organization_id = i.organization_id AND m.user_id = i.invited_by) n ON true
        WHERE c.id = auth.current_user_id() AND i.accepted_at IS NULL AND i.revoked_at IS NULL AND i.expires_at > now()
        ORDER BY i.created_at DESC, i.id DESC LIMIT 100
$$;
