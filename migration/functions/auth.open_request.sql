-- Opens a request: resolves the caller, their organization and role, and applies the settings that
-- row-level security reads. One row; the settings hold only where outcome is 'OK'.
--
-- p_proof shows that a server asks, and not SQL inside a request: see auth.is_proven. Its message is
-- the caller and the way to the organization, each text after its length, so that no two callers share
-- one. outcome UNPROVEN: no registered key made it; CLOCKS_DIFFER: it was made at another time.
--
-- home says where the organization lives; 'elsewhere' means that the control database knows more.
-- home_generation, suspension: see app.placements.
-- email_is_current: p_email is the address of the newest token of this identity.
DROP FUNCTION IF EXISTS auth.open_request;
CREATE FUNCTION auth.open_request(
    p_issuer text, p_subject text, p_path text, p_claim text, p_email text, p_home text DEFAULT 'shared',
    p_issued_at timestamptz DEFAULT NULL, p_proven_at bigint DEFAULT NULL, p_proof bytea DEFAULT NULL,
    OUT outcome text, OUT user_id uuid, OUT organization_id uuid, OUT organization_slug text, OUT role text,
    OUT billing_version timestamptz,
    OUT organization_name text, OUT organization_created_at timestamptz, OUT organization_updated_at timestamptz,
    OUT home text, OUT home_version text, OUT home_generation bigint,
    OUT email_is_current boolean, OUT suspension text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, app, billing, pg_temp AS $$
DECLARE
    issued_micros text := (extract(epoch FROM p_issued_at) * 1000000)::bigint;
    is_newer     boolean;
    is_erased    boolean;
    is_suspended boolean;
    from_path   uuid;
    from_claim  uuid;
    asked       uuid;
    may_write   boolean;
    moves       boolean;
    -- What others may have claimed since is for the control database to say.
    recent      timestamptz := coalesce((SELECT now() - interval '89 days' FROM app.database), '-infinity');
BEGIN
    IF NOT auth.is_proven(
        concat('open ', octet_length(p_issuer), ':', p_issuer, ' ', octet_length(p_subject), ':', p_subject,
               ' ', octet_length(p_path), ':', p_path, ' ', octet_length(p_claim), ':', p_claim,
               ' ', octet_length(p_email), ':', p_email,
               ' ', octet_length(issued_micros), ':', issued_micros),
        p_proven_at, p_proof)
    THEN
        outcome := 'UNPROVEN';
        RETURN;
    END IF;
    IF abs(extract(epoch FROM now()) - p_proven_at) > 300 THEN
        outcome := 'CLOCKS_DIFFER';
        RETURN;
    END IF;
    SELECT i.user_id, p_email IS NOT DISTINCT FROM i.email, p_issued_at > coalesce(i.issued_at, i.updated_at),
           coalesce(p_issued_at, '-infinity') <= i.not_before, u.suspended_at IS NOT NULL
        INTO user_id, email_is_current, is_newer, is_erased, is_suspended
        FROM auth.identities i JOIN auth.users u ON u.id = i.user_id
        WHERE i.issuer = p_issuer AND i.subject = p_subject;
    IF user_id IS NULL THEN
        outcome := 'UNKNOWN_IDENTITY';
        RETURN;
    END IF;
    IF is_erased THEN
        outcome := 'ERASED';
        RETURN;
    END IF;
    IF is_suspended THEN
        outcome := 'USER_SUSPENDED';
        RETURN;
    END IF;
    -- An older token changes nothing, and its address counts no more.
    IF p_email IS NOT NULL AND NOT email_is_current AND is_newer THEN
        outcome := 'STALE_IDENTITY';
        RETURN;
    END IF;

    IF p_path IS NOT NULL THEN
        SELECT s.organization_id INTO from_path FROM app.organization_slugs s
            WHERE s.slug = p_path AND (s.retired_at IS NULL OR s.retired_at > recent);
    END IF;
    IF p_claim ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' THEN
        from_claim := p_claim::uuid;
    ELSIF p_claim IS NOT NULL AND p_claim IS DISTINCT FROM p_path THEN
        SELECT s.organization_id INTO from_claim FROM app.organization_slugs s
            WHERE s.slug = p_claim AND (s.retired_at IS NULL OR s.retired_at > recent);
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
        PERFORM app.set_session(NULL, user_id, NULL);
        outcome := 'OK';
        RETURN;
    END IF;

    asked := CASE WHEN p_path IS NULL THEN from_claim ELSE from_path END;
    may_write := current_setting('transaction_read_only') = 'off';
    IF may_write AND asked IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(app.placement_lock(asked));
    END IF;
    SELECT o.id, o.slug, m.role, b.updated_at, o.name, o.created_at, o.updated_at,
           coalesce(p.home, (SELECT 'elsewhere' FROM app.database), 'shared'), p.version, p.generation, p.moving_to IS NOT NULL, p.suspension
        INTO organization_id, organization_slug, role, billing_version,
             organization_name, organization_created_at, organization_updated_at, home, home_version, home_generation, moves, suspension
        FROM auth.organization_members m
            JOIN app.organizations o ON o.id = m.organization_id
            LEFT JOIN billing.organization_billing b ON b.organization_id = m.organization_id
            LEFT JOIN app.placements p ON p.organization_id = m.organization_id
        WHERE m.organization_id = asked AND m.user_id = open_request.user_id;
    IF organization_id IS NULL THEN
        outcome := 'NOT_FOUND';
        RETURN;
    END IF;
    -- Only a change that leads away from it may begin in the control database: what is read of it here may be out of date.
    IF home <> p_home OR (home ~ '^database:' AND NOT may_write) THEN
        outcome := 'ELSEWHERE';
        RETURN;
    END IF;
    -- Owners may still pay; the server lets them do nothing else.
    IF role <> 'owner' AND (suspension = 'full' OR suspension = 'read-only' AND may_write) THEN
        outcome := 'ORGANIZATION_SUSPENDED';
        RETURN;
    END IF;
    IF home = 'schema' AND to_regnamespace(app.placement_schema(organization_id)) IS NULL THEN
        RAISE 'the organization % has lost its schema', organization_id;
    END IF;
    PERFORM app.set_session(organization_id, user_id, role);
    IF may_write AND moves THEN
        PERFORM set_config('app.moving', 'on', true);
    END IF;
    outcome := 'OK';
END
$$;
REVOKE EXECUTE ON FUNCTION auth.open_request FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.open_request TO tenantry_app;
