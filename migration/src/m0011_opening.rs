//! The opening of a request brings its organization's row along.

crate::step!("m0011_opening", SQL.to_owned());

const SQL: &str = r"
-- As before, and the whole row of the organization, which nearly every request shows something of.
DROP FUNCTION auth.open_request;
CREATE FUNCTION auth.open_request(
    p_issuer text, p_subject text, p_path text, p_claim text, p_email text,
    OUT outcome text, OUT user_id uuid, OUT organization_id uuid, OUT organization_slug text, OUT role text,
    OUT billing_version timestamptz,
    OUT organization_name text, OUT organization_created_at timestamptz, OUT organization_updated_at timestamptz
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, app, billing, pg_temp AS $$
DECLARE
    known_email text;
    from_path   uuid;
    from_claim  uuid;
BEGIN
    SELECT i.user_id, i.email INTO user_id, known_email
        FROM auth.identities i WHERE i.issuer = p_issuer AND i.subject = p_subject;
    IF user_id IS NULL THEN
        outcome := 'UNKNOWN_IDENTITY';
        RETURN;
    END IF;
    IF p_email IS NOT NULL AND p_email IS DISTINCT FROM known_email THEN
        outcome := 'STALE_IDENTITY';
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
        -- Whatever the connection did before.
        PERFORM set_config('app.current_org_id', '', true), set_config('app.current_role', '', true);
        outcome := 'OK';
        RETURN;
    END IF;

    SELECT o.id, o.slug, m.role, b.updated_at, o.name, o.created_at, o.updated_at
        INTO organization_id, organization_slug, role, billing_version,
             organization_name, organization_created_at, organization_updated_at
        FROM auth.organization_members m
            JOIN app.organizations o ON o.id = m.organization_id
            LEFT JOIN billing.organization_billing b ON b.organization_id = m.organization_id
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

REVOKE EXECUTE ON FUNCTION auth.open_request FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.open_request TO tenantry_app;
";
