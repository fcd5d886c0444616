-- Makes a slug the current one of the current organization and retires the previous slug, which
-- still resolves to the organization. Returns CLAIMED, TAKEN (another organization has it, or had
-- it in the last 90 days) or TOO_MANY (20 slugs that the current user claimed were retired in that
-- time).
--
-- In the control database, p_organization names an organization in a dedicated database, of which
-- the current user is a member. The slug is reserved for it until directory sync makes it the
-- current slug, and resolves to it as a retired slug does.
CREATE OR REPLACE FUNCTION app.claim_slug(p_slug text, p_organization uuid DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, auth, pg_temp AS $$
DECLARE
    current_id uuid := coalesce(p_organization, app.current_organization());
    caller_id  uuid := auth.current_user_id();
    retired    timestamptz := CASE WHEN p_organization IS NOT NULL THEN now() END;
BEGIN
    IF p_organization IS NOT NULL AND NOT EXISTS (
        SELECT FROM auth.organization_members m WHERE m.organization_id = p_organization AND m.user_id = caller_id)
    THEN
        RETURN 'TAKEN';
    END IF;
    IF (SELECT count(*) FROM app.organization_slugs s
            WHERE s.claimed_by = caller_id AND s.retired_at > now() - interval '90 days') >= 20 THEN
        RETURN 'TOO_MANY';
    END IF;
    INSERT INTO app.organization_slugs AS s (slug, organization_id, claimed_by, retired_at)
        VALUES (p_slug, current_id, caller_id, retired)
        -- A reservation leaves the current slug as it is.
        ON CONFLICT (slug) DO UPDATE SET organization_id = current_id,
            claimed_by = CASE WHEN s.retired_at IS NULL AND retired IS NOT NULL THEN s.claimed_by ELSE caller_id END,
            retired_at = CASE WHEN s.retired_at IS NOT NULL THEN retired END
        WHERE s.organization_id = current_id OR s.retired_at < now() - interval '90 days';
    IF NOT FOUND THEN
        RETURN 'TAKEN';
    END IF;
    UPDATE app.organization_slugs SET retired_at = now()
        WHERE retired IS NULL AND organization_id = current_id AND slug <> p_slug AND retired_at IS NULL;
    RETURN 'CLAIMED';
END
$$;
