-- Makes a slug the current one of the current organization and retires the previous slug, which
-- still resolves to the organization. Returns CLAIMED, TAKEN (another organization has it, or had
-- it in the last 90 days) or TOO_MANY (20 slugs that the current user claimed were retired in that
-- time).
CREATE OR REPLACE FUNCTION app.claim_slug(p_slug text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
    current_id uuid := app.current_organization();
    caller_id  uuid := auth.current_user_id();
BEGIN
    IF (SELECT count(*) FROM app.organization_slugs s
            WHERE s.claimed_by = caller_id AND s.retired_at > now() - interval '90 days') >= 20 THEN
        RETURN 'TOO_MANY';
    END IF;
    INSERT INTO app.organization_slugs AS s (slug, organization_id, claimed_by) VALUES (p_slug, current_id, caller_id)
        ON CONFLICT (slug) DO UPDATE SET organization_id = current_id, claimed_by = caller_id, retired_at = NULL
        WHERE s.organization_id = current_id OR s.retired_at < now() - interval '90 days';
    IF NOT FOUND THEN
        RETURN 'TAKEN';
    END IF;
    UPDATE app.organization_slugs SET retired_at = now()
        WHERE organization_id = current_id AND slug <> p_slug AND retired_at IS NULL;
    RETURN 'CLAIMED';
END
$$;
