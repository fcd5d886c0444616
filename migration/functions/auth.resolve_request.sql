-- Opens any request. auth.open_request, which describes parameters and result, calls it unless one
-- statement has opened the request. It checks everything itself. Its columns are those of
-- auth.opened_request.
CREATE OR REPLACE FUNCTION auth.resolve_request(
    p_issuer text, p_subject text, p_path text, p_claim text, p_email text, p_placement text,
    p_issued_at timestamptz, p_proven_at bigint, p_proof bytea, p_record boolean, p_profile text,
    OUT outcome text, OUT user_id uuid, OUT email_is_current boolean, OUT version text,
    OUT organization_id uuid, OUT organization_slug text, OUT organization_name text,
    OUT organization_created_at timestamptz, OUT organization_updated_at timestamptz,
    OUT role text, OUT placement text, OUT placement_version text, OUT placement_generation bigint, OUT suspension text,
    OUT billing_version timestamptz, OUT plan text, OUT status text, OUT has_subscription boolean,
    OUT period_start timestamptz, OUT period_end timestamptz, OUT trial_ends_at timestamptz,
    OUT cancel_at_period_end boolean, OUT past_due_since timestamptz, OUT paid_until timestamptz, OUT has_exceptions boolean
) LANGUAGE plpgsql AS $$
DECLARE
    issued_micros text := (extract(epoch FROM p_issued_at) * 1000000)::bigint;
    from_path   uuid;
    from_claim  uuid;
    target      uuid;
    may_write   boolean := current_setting('transaction_read_only') = 'off';
    is_moving   boolean;
    kept_since  timestamptz;
    session     text;
BEGIN
    -- Without a proof there is no row to which the others are joined, and without a timely one no
    -- identity. A retired slug is free for others after 90 days. A dedicated database does not
    -- learn who claims it then, and stops resolving it a day earlier.
    SELECT k.kept_since, i.user_id, p_email IS NOT DISTINCT FROM i.email, i.xmin::text, s.organization_id,
           CASE WHEN NOT k.is_timely THEN 'CLOCKS_DIFFER'
                WHEN i.user_id IS NULL THEN 'UNKNOWN_IDENTITY'
                WHEN coalesce(p_issued_at, '-infinity') <= i.not_before THEN 'ERASED'
                WHEN i.suspended_at IS NOT NULL THEN 'USER_SUSPENDED'
                -- An older token changes nothing, and its address is ignored. The time of the
                -- newest token is known to a minute, so a caller with a new token for each request
                -- causes one write a minute.
                WHEN p_record AND (
                    p_issued_at > coalesce(i.issued_at, i.updated_at) + interval '1 minute'
                    OR p_email IS NOT NULL AND p_email IS DISTINCT FROM i.email AND p_issued_at > coalesce(i.issued_at, i.updated_at)
                    OR p_profile IS NOT NULL AND NOT coalesce(i.profile, '{}') @> p_profile::jsonb
                       AND (i.profile IS NULL OR p_issued_at > coalesce(i.issued_at, i.updated_at))) THEN 'STALE_IDENTITY' END
        INTO kept_since, user_id, email_is_current, version, from_path, outcome
        FROM (SELECT (SELECT now() - interval '89 days' FROM app.database) AS kept_since,
                     abs(extract(epoch FROM now()) - p_proven_at) <= 300 AS is_timely
              WHERE auth.is_proven(auth.open_message(p_issuer, p_subject, p_path, p_claim, p_email, issued_micros),
                                   p_proven_at, p_proof)) k
            LEFT JOIN auth.identities i ON i.issuer = p_issuer AND i.subject = p_subject AND k.is_timely
            LEFT JOIN app.organization_slugs s ON s.slug = coalesce(p_path, p_claim)
                AND (s.retired_at IS NULL OR s.retired_at > coalesce(k.kept_since, '-infinity'));
    IF NOT FOUND THEN
        outcome := 'UNPROVEN';
    END IF;
    IF outcome IS NOT NULL THEN
        RETURN;
    END IF;

    IF p_claim ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' THEN
        from_claim := p_claim::uuid;
    ELSIF p_claim <> p_path THEN
        SELECT s.organization_id INTO from_claim FROM app.organization_slugs s
            WHERE s.slug = p_claim AND (s.retired_at IS NULL OR s.retired_at > coalesce(kept_since, '-infinity'));
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
        session := app.set_session(NULL, user_id, NULL);
        outcome := 'OK';
        RETURN;
    END IF;

    target := CASE WHEN p_path IS NULL THEN from_claim ELSE from_path END;
    IF may_write THEN
        -- For members only, as in auth.open_request. For others there is no target.
        SELECT m.organization_id, pg_advisory_xact_lock_shared(app.placement_lock(m.organization_id)) INTO target, session
            FROM auth.organization_members m
            WHERE m.organization_id = target AND m.user_id = resolve_request.user_id;
    END IF;
    SELECT o.id, o.slug, m.role, b.updated_at, b.plan, b.status, b.stripe_subscription_id IS NOT NULL, b.period_start, b.period_end,
           b.trial_ends_at, b.cancel_at_period_end, b.past_due_since, b.paid_until, b.has_exceptions, o.name, o.created_at, o.updated_at,
           coalesce(p.placement, CASE WHEN kept_since IS NULL THEN 'shared' ELSE 'remote' END),
           CASE p.placement WHEN 'schema' THEN p.version END, p.generation, p.moving_to IS NOT NULL, p.suspension,
           -- Null without a slug: a change from moving or suspended to another state than open in
           -- the shared tables would not write the row.
           CASE WHEN l.slug IS NOT NULL THEN concat(resolve_request.version, ' ', m.xmin, ' ', l.xmin, ' ', pg_postmaster_start_time()) END
        INTO organization_id, organization_slug, role, billing_version, plan, status, has_subscription, period_start, period_end,
             trial_ends_at, cancel_at_period_end, past_due_since, paid_until, has_exceptions,
             organization_name, organization_created_at, organization_updated_at, placement, placement_version, placement_generation, is_moving, suspension, version
        FROM auth.organization_members m
            JOIN app.organizations o ON o.id = m.organization_id
            LEFT JOIN app.organization_lookup l ON l.organization_id = m.organization_id
            LEFT JOIN billing.organization_billing b ON b.organization_id = m.organization_id
            LEFT JOIN app.placements p ON p.organization_id = m.organization_id
        WHERE m.organization_id = target AND m.user_id = resolve_request.user_id;
    outcome := CASE
        WHEN organization_id IS NULL THEN 'NOT_FOUND'
        -- The control database has only copies of an organization in a dedicated database, which
        -- may be outdated. Nothing is read from them: only a transaction that may write begins
        -- here.
        WHEN placement <> p_placement OR placement ~ '^database:' AND NOT may_write THEN 'OTHER_PLACEMENT'
        -- Owners may still pay. The server allows them nothing else.
        WHEN role <> 'owner' AND (suspension = 'full' OR suspension = 'read-only' AND may_write) THEN 'ORGANIZATION_SUSPENDED'
        ELSE 'OK' END;
    IF outcome <> 'OK' THEN
        RETURN;
    END IF;
    IF placement = 'schema' AND to_regnamespace(app.placement_schema(organization_id)) IS NULL THEN
        RAISE 'the schema of organization % does not exist', organization_id;
    END IF;
    session := app.set_session(organization_id, user_id, role);
    IF may_write AND is_moving THEN
        PERFORM set_config('app.moving', 'on', true);
    END IF;
END
$$;
