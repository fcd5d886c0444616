//! The narrow doors through the wall: what a request needs before it has an organization, or across
//! all of them.
//!
//! Each is `SECURITY DEFINER` with a pinned `search_path`, executable by the app role alone, and
//! answers only about the person or the organization that it is given.

crate::step!("m0008_request", SQL.to_owned());

const SQL: &str = r"
-- Who calls and where: resolves identity, organization and role, and applies the transaction's settings.
-- outcome: OK, UNKNOWN_IDENTITY, NOT_FOUND or MISMATCH.
CREATE FUNCTION auth.open_request(
    p_issuer text, p_subject text, p_path text, p_claim text,
    OUT outcome text, OUT user_id uuid, OUT organization_id uuid, OUT organization_slug text, OUT role text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, app, pg_temp AS $$
DECLARE
    from_path  uuid;
    from_claim uuid;
BEGIN
    SELECT i.user_id INTO user_id FROM auth.identities i
        WHERE i.issuer = p_issuer AND i.subject = p_subject;
    IF user_id IS NULL THEN
        outcome := 'UNKNOWN_IDENTITY';
        RETURN;
    END IF;
    PERFORM set_config('app.current_user_id', user_id::text, true);

    IF p_path IS NOT NULL THEN
        SELECT s.organization_id INTO from_path FROM app.organization_slugs s WHERE s.slug = p_path;
    END IF;
    IF p_claim ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' THEN
        from_claim := p_claim::uuid;
    ELSIF p_claim IS NOT NULL AND p_claim IS DISTINCT FROM p_path THEN
        SELECT s.organization_id INTO from_claim FROM app.organization_slugs s WHERE s.slug = p_claim;
    ELSE
        from_claim := from_path;
    END IF;

    IF p_path IS NOT NULL AND p_claim IS NOT NULL AND p_path <> p_claim
        AND (from_path IS NULL OR from_path IS DISTINCT FROM from_claim)
    THEN
        outcome := 'MISMATCH';
        RETURN;
    END IF;

    IF p_path IS NULL AND p_claim IS NULL THEN
        outcome := 'OK';
        RETURN;
    END IF;

    SELECT o.id, o.slug, m.role INTO organization_id, organization_slug, role
        FROM auth.organization_members m JOIN app.organizations o ON o.id = m.organization_id
        WHERE m.organization_id = CASE WHEN p_path IS NULL THEN from_claim ELSE from_path END
            AND m.user_id = open_request.user_id;
    IF organization_id IS NULL THEN
        outcome := 'NOT_FOUND';
        RETURN;
    END IF;
    PERFORM set_config('app.current_org_id', organization_id::text, true),
            set_config('app.current_role', role, true);
    outcome := 'OK';
END
$$;

-- Gives an identity that is seen for the first time its user: the one with the same verified e-mail address, or a new one.
CREATE FUNCTION auth.provision_user(p_issuer text, p_subject text, p_email text, p_name text) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
DECLARE
    found_id uuid;
BEGIN
    -- Two first requests of one person wait for each other instead of leaving a user without an identity behind.
    PERFORM pg_advisory_xact_lock(hashtextextended(p_issuer || E'\n' || p_subject, 0));
    SELECT i.user_id INTO found_id FROM auth.identities i
        WHERE i.issuer = p_issuer AND i.subject = p_subject;
    IF found_id IS NOT NULL THEN
        RETURN found_id;
    END IF;
    INSERT INTO auth.users (email, name) VALUES (p_email, p_name)
        ON CONFLICT (email) DO NOTHING RETURNING id INTO found_id;
    IF found_id IS NULL THEN
        SELECT u.id INTO STRICT found_id FROM auth.users u WHERE u.email = p_email;
    END IF;
    INSERT INTO auth.identities (issuer, subject, user_id) VALUES (p_issuer, p_subject, found_id);
    RETURN found_id;
END
$$;

-- The organizations of the person who asks, whichever one the request is in.
CREATE FUNCTION auth.viewer_memberships()
RETURNS TABLE (organization_id uuid, name text, slug text, role text, joined_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = auth, app, pg_temp AS $$
    SELECT o.id, o.name, o.slug, m.role::text, m.joined_at
        FROM auth.organization_members m JOIN app.organizations o ON o.id = m.organization_id
        WHERE m.user_id = (SELECT nullif(current_setting('app.current_user_id', true), '')::uuid)
        ORDER BY m.joined_at, o.id
$$;

-- Makes a slug the current one of the current organization; false when somebody else holds it, or held it
-- within the last 90 days. The one before is retired and goes on leading members here.
CREATE FUNCTION app.claim_slug(p_slug text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
    current_id uuid := nullif(current_setting('app.current_org_id', true), '')::uuid;
BEGIN
    INSERT INTO app.organization_slugs AS s (slug, organization_id) VALUES (p_slug, current_id)
        ON CONFLICT (slug) DO UPDATE SET organization_id = current_id, retired_at = NULL
        WHERE s.organization_id = current_id OR s.retired_at < now() - interval '90 days';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE app.organization_slugs SET retired_at = now()
        WHERE organization_id = current_id AND slug <> p_slug AND retired_at IS NULL;
    RETURN true;
END
$$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA app, auth FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.open_request, auth.provision_user, auth.viewer_memberships, app.claim_slug
    TO tenantry_app;
";
