-- Makes a slug the current one of the current organization and retires the one before, which still
-- leads members here. Returns CLAIMED, TAKEN (another organization has it, or had it in the last 90
-- days) or TOO_MANY (the current user gave up 20 slugs in that time).
DROP FUNCTION IF EXISTS app.claim_slug;
CREATE FUNCTION app.claim_slug(p_slug text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
    current_id uuid := app.current_organization();
    person     uuid := auth.current_user_id();
BEGIN
    IF (SELECT count(*) FROM app.organization_slugs s
            WHERE s.claimed_by = person AND s.retired_at > now() - interval '90 days') >= 20 THEN
        RETURN 'TOO_MANY';
    END IF;
    INSERT INTO app.organization_slugs AS s (slug, organization_id, claimed_by) VALUES (p_slug, current_id, person)
        ON CONFLICT (slug) DO UPDATE SET organization_id = current_id, claimed_by = person, retired_at = NULL
        WHERE s.organization_id = current_id OR s.retired_at < now() - interval '90 days';
    IF NOT FOUND THEN
        RETURN 'TAKEN';
    END IF;
    UPDATE app.organization_slugs SET retired_at = now()
        WHERE organization_id = current_id AND slug <> p_slug AND retired_at IS NULL;
    RETURN 'CLAIMED';
END
$$;
REVOKE EXECUTE ON FUNCTION app.claim_slug FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.claim_slug TO tenantry_app;
