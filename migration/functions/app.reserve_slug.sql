-- In the control database: reserves a slug for an organization in a dedicated database, of which
-- the current user is a member. Directory sync makes it the current slug. Until then it resolves to
-- the organization as a retired slug does. Returns what app.claim_slug returns.
CREATE OR REPLACE FUNCTION app.reserve_slug(p_organization uuid, p_slug text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, auth, pg_temp AS $$
DECLARE
    caller_id uuid := auth.current_user_id();
BEGIN
    IF NOT EXISTS (SELECT FROM auth.organization_members m WHERE m.organization_id = p_organization AND m.user_id = caller_id) THEN
        RETURN 'TAKEN';
    END IF;
    IF (SELECT count(*) FROM app.organization_slugs s
            WHERE s.claimed_by = caller_id AND s.retired_at > now() - interval '90 days') >= 20 THEN
        RETURN 'TOO_MANY';
    END IF;
    INSERT INTO app.organization_slugs AS s (slug, organization_id, claimed_by, retired_at) VALUES (p_slug, p_organization, caller_id, now())
        ON CONFLICT (slug) DO UPDATE SET organization_id = p_organization, claimed_by = caller_id, retired_at = now()
        WHERE s.retired_at IS NOT NULL AND (s.organization_id = p_organization OR s.retired_at < now() - interval '90 days');
    IF FOUND OR EXISTS (SELECT FROM app.organization_slugs s WHERE s.slug = p_slug AND s.organization_id = p_organization) THEN
        RETURN 'CLAIMED';
    END IF;
    RETURN 'TAKEN';
END
$$;
