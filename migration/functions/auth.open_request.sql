-- Opens the session of a request: resolves the caller, the organization and the caller's role, and
-- applies the settings that row-level security reads. The settings are applied only if outcome is
-- 'OK'.
--
-- p_proof shows that a server is calling, and not SQL inside a request: see auth.is_proven and
-- auth.open_message. outcome UNPROVEN: no registered key created the proof; CLOCKS_DIFFER: it was
-- created at another time; OTHER_PLACEMENT: the organization is not at p_placement.
--
-- placement is where the organization's rows are; 'remote' means that the control database knows.
-- placement_generation, suspension: see app.placements.
-- email_is_current: p_email is the address of the newest token of this identity.
-- version changes with every row that decides the result, and is null for an organization whose
-- sessions cannot be reopened: see auth.reopen_request.
-- plan to has_exceptions: the columns of the organization's billing that decide the plan in effect.
-- STALE_IDENTITY: auth.provision_user has to record the token first. Without p_record it need not,
-- and the token changes nothing. p_profile is what that function would record; it is not part of
-- the proof, because it decides nothing else.
--
-- One statement reads what the usual request needs: it has one name for the organization, its
-- current slug; the organization is in the shared tables, not suspended and not moving; and nothing
-- has to be recorded. app.organization_lookup has the slugs of these organizations. If anything is
-- different, the statement finds no role, and auth.resolve_request decides everything from the
-- sources. An expired proof is left to it as well: it reports CLOCKS_DIFFER.
--
-- Initializing a statement costs more than its look-ups: each table, each function in an
-- expression, and each column in every join above its table. So few checks stand in the statement,
-- and the result is a named type, because PostgreSQL would read OUT parameters from its catalogue
-- at every call.
DROP TYPE IF EXISTS auth.opened_request;
CREATE TYPE auth.opened_request AS (
    outcome text, user_id uuid, email_is_current boolean, version text,
    organization_id uuid, organization_slug text, organization_name text,
    organization_created_at timestamptz, organization_updated_at timestamptz,
    role text, placement text, placement_version text, placement_generation bigint, suspension text,
    billing_version timestamptz, plan text, status text, has_subscription boolean,
    period_start timestamptz, period_end timestamptz, trial_ends_at timestamptz,
    cancel_at_period_end boolean, past_due_since timestamptz, paid_until timestamptz, has_exceptions boolean
);

CREATE OR REPLACE FUNCTION auth.open_request(
    p_issuer text, p_subject text, p_path text, p_claim text, p_email text, p_placement text DEFAULT 'shared',
    p_issued_at timestamptz DEFAULT NULL, p_proven_at bigint DEFAULT NULL, p_proof bytea DEFAULT NULL,
    p_record boolean DEFAULT true, p_profile text DEFAULT NULL
) RETURNS auth.opened_request LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, app, billing, pg_temp AS $$
DECLARE
    opened        auth.opened_request;
    -- A text that is not JSON fails before anything is read, so the failure tells nothing.
    given         jsonb := p_profile;
    session       text;
    locked        uuid;
    may_write     boolean := current_setting('transaction_read_only') = 'off';
    issued_micros text := (extract(epoch FROM p_issued_at) * 1000000)::bigint;
    current_slug  text := CASE
        WHEN p_claim IS NULL OR p_claim = p_path THEN p_path
        -- A claim with an id is another name.
        WHEN p_path IS NULL AND p_claim !~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' THEN p_claim END;
BEGIN
    -- SQL inside an earlier request may have changed settings of the connection. This also resets
    -- the search path of this function, so the names below are qualified.
    RESET ALL;
    IF current_slug IS NOT NULL AND p_placement = 'shared' AND abs(extract(epoch FROM now()) - p_proven_at) <= 300
        AND auth.is_proven(auth.open_message(p_issuer, p_subject, p_path, p_claim, p_email, issued_micros), p_proven_at, p_proof)
    THEN
        -- A transaction that may write reads under the placement lock, so a move is over or has not
        -- begun. Only a member takes the lock: while it is held exclusively, a caller who waits
        -- learns that the slug exists. The lock of null is none.
        IF may_write THEN
            SELECT m.organization_id, pg_advisory_xact_lock_shared(app.placement_lock(m.organization_id)) INTO locked, session
                FROM auth.identities i
                    LEFT JOIN app.organization_lookup l ON l.slug = current_slug
                    LEFT JOIN auth.organization_members m ON m.organization_id = l.organization_id AND m.user_id = i.user_id
                WHERE i.issuer = p_issuer AND i.subject = p_subject AND i.not_before IS NULL AND i.suspended_at IS NULL;
        END IF;
        -- Outer joins, so that the planner does not start from the memberships of the user.
        SELECT 'OK', i.user_id, p_email IS NOT DISTINCT FROM i.email,
               concat(i.xmin, ' ', m.xmin, ' ', l.xmin, ' ', pg_postmaster_start_time()),
               l.organization_id, current_slug, l.name, l.created_at, l.updated_at, m.role, 'shared', NULL, l.generation, NULL,
               l.billing_version, l.plan, l.status, l.has_subscription, l.period_start, l.period_end,
               l.trial_ends_at, l.cancel_at_period_end, l.past_due_since, l.paid_until, l.has_exceptions
            INTO opened
            FROM auth.identities i
                LEFT JOIN app.organization_lookup l ON l.slug = current_slug
                LEFT JOIN auth.organization_members m ON m.organization_id = l.organization_id AND m.user_id = i.user_id
            WHERE i.issuer = p_issuer AND i.subject = p_subject AND i.not_before IS NULL AND i.suspended_at IS NULL
              AND (NOT p_record
                   OR (p_issued_at IS NULL OR p_issued_at <= coalesce(i.issued_at, i.updated_at) + interval '1 minute')
                      AND (p_email IS NULL OR p_email = i.email) AND (given IS NULL OR i.profile @> given));
        -- Between the two statements, the slug may have become that of another organization.
        IF opened.role IS NOT NULL AND (NOT may_write OR opened.organization_id = locked) THEN
            session := app.set_session(opened.organization_id, opened.user_id, opened.role);
            RETURN opened;
        END IF;
    END IF;
    RETURN auth.resolve_request(
        p_issuer, p_subject, p_path, p_claim, p_email, p_placement, p_issued_at, p_proven_at, p_proof, p_record, p_profile);
END
$$;
