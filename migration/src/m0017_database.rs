//! Organizations may live in a database of their own, on any server: which, only the control
//! database knows.
//!
//! Such a database has the same tables, and its organizations are in the shared ones. Of each
//! organization there it says whether it lives there (`shared`) or not (`elsewhere`: ask the
//! control database), so that a request needs no more than one of the two. It has copies of the
//! people whom it needs, and of the catalogue; the control database keeps a directory of what is
//! there, as it does of schemas, which follows what was committed.

use crate::rls::{self, Verb};

crate::step!("m0017_database", sql());

const TABLES: &str = r"
-- The name by which the control database knows this one; no row: this is the control database.
CREATE TABLE app.database (
    name       text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_-]{0,39}$'),
    is_only    boolean NOT NULL DEFAULT true UNIQUE CHECK (is_only),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

DO $$
DECLARE
    unnamed text;
BEGIN
    FOR unnamed IN SELECT conname FROM pg_constraint WHERE conrelid = 'app.placements'::regclass AND contype = 'c' LOOP
        EXECUTE format('ALTER TABLE app.placements DROP CONSTRAINT %I', unnamed);
    END LOOP;
END
$$;
ALTER TABLE app.placements
    -- How often it has moved to a database or from one: who finds two that disagree knows which is right.
    ADD COLUMN generation bigint NOT NULL DEFAULT 0,
    -- What the audit log is to say when it arrives; there is something once all of it was brought.
    ADD COLUMN arrival jsonb,
    ADD CONSTRAINT placements_home CHECK (home ~ '^(shared|schema|elsewhere|database:[a-z][a-z0-9_-]{0,39})$'),
    ADD CONSTRAINT placements_moving_to
        CHECK (moving_to ~ '^(shared|schema|elsewhere|database:[a-z][a-z0-9_-]{0,39})$' AND moving_to <> home),
    ADD CONSTRAINT placements_old_home
        CHECK (old_home ~ '^(shared|schema|elsewhere|database:[a-z][a-z0-9_-]{0,39})$' AND old_home <> home);
";

const OPENING: &str = r"
-- As before. Where home is 'elsewhere', the control database knows more. home_generation: see app.placements.
DROP FUNCTION auth.open_request;
CREATE FUNCTION auth.open_request(
    p_issuer text, p_subject text, p_path text, p_claim text, p_email text, p_home text DEFAULT 'shared',
    OUT outcome text, OUT user_id uuid, OUT organization_id uuid, OUT organization_slug text, OUT role text,
    OUT billing_version timestamptz,
    OUT organization_name text, OUT organization_created_at timestamptz, OUT organization_updated_at timestamptz,
    OUT home text, OUT home_version text, OUT home_generation bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, app, billing, pg_temp AS $$
DECLARE
    known_email text;
    from_path   uuid;
    from_claim  uuid;
    asked       uuid;
    may_write   boolean;
    moves       boolean;
    -- What others may have claimed since is for the control database to say.
    recent      timestamptz := coalesce((SELECT now() - interval '89 days' FROM app.database), '-infinity');
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
        -- Whatever the connection did before.
        PERFORM set_config('app.current_org_id', '', true), set_config('app.current_role', '', true);
        outcome := 'OK';
        RETURN;
    END IF;

    asked := CASE WHEN p_path IS NULL THEN from_claim ELSE from_path END;
    may_write := current_setting('transaction_read_only') = 'off';
    IF may_write AND asked IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(app.placement_lock(asked));
    END IF;
    SELECT o.id, o.slug, m.role, b.updated_at, o.name, o.created_at, o.updated_at,
           coalesce(p.home, (SELECT 'elsewhere' FROM app.database), 'shared'), p.version, p.generation, p.moving_to IS NOT NULL
        INTO organization_id, organization_slug, role, billing_version,
             organization_name, organization_created_at, organization_updated_at, home, home_version, home_generation, moves
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
    IF home = 'schema' AND to_regnamespace(app.placement_schema(organization_id)) IS NULL THEN
        RAISE 'the organization % has lost its schema', organization_id;
    END IF;
    PERFORM set_config('app.current_org_id', organization_id::text, true),
            set_config('app.current_role', role, true);
    IF may_write AND moves THEN
        PERFORM set_config('app.moving', 'on', true);
    END IF;
    outcome := 'OK';
END
$$;
DROP FUNCTION auth.enter_organization;
CREATE FUNCTION auth.enter_organization(
    p_organization uuid, p_role text, OUT home text, OUT home_version text, OUT home_generation bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
    may_write boolean := current_setting('transaction_read_only') = 'off';
    moves     boolean;
BEGIN
    IF may_write AND p_organization IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(app.placement_lock(p_organization));
    END IF;
    SELECT p.home, p.version, p.generation, p.moving_to IS NOT NULL INTO home, home_version, home_generation, moves
        FROM app.placements p WHERE p.organization_id = p_organization;
    home := coalesce(home, (SELECT 'elsewhere' FROM app.database WHERE p_organization IS NOT NULL), 'shared');
    IF home = 'schema' AND to_regnamespace(app.placement_schema(p_organization)) IS NULL THEN
        RAISE 'the organization % has lost its schema', p_organization;
    END IF;
    PERFORM set_config('app.current_org_id', coalesce(p_organization::text, ''), true),
            set_config('app.current_role', coalesce(p_role, ''), true);
    IF may_write AND moves THEN
        PERFORM set_config('app.moving', 'on', true);
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION auth.open_request, auth.enter_organization FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.open_request, auth.enter_organization TO tenantry_app;
";

const ARRIVALS: &str = r"
-- The name of this database; NULL: the control database.
CREATE FUNCTION app.database_name() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
    SELECT d.name FROM app.database d
$$;

-- Says in the audit log that an organization has arrived.
CREATE FUNCTION app.record_arrival(p_organization uuid, p_arrival jsonb) RETURNS void
LANGUAGE sql SET search_path = app, audit, pg_temp AS $$
    -- It is said once: whoever arrives again brings it along.
    UPDATE app.placements SET arrival = NULL WHERE organization_id = p_organization;
    INSERT INTO audit.audit_logs (organization_id, actor_name, action, resource_type, resource_id, metadata)
        VALUES (p_organization, 'tenantry tenant move', 'organization.moved', 'organization', p_organization, coalesce(p_arrival, '{}'))
$$;

-- In a database of organizations' own: from now on this one lives here. The control database has said so before, in this generation.
CREATE FUNCTION app.take_in(p_organization uuid, p_generation bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
    said jsonb;
BEGIN
    UPDATE app.placements p SET home = 'shared', moving_to = NULL, moved_at = now(), old_home = NULL, keep_old_until = NULL
        WHERE p.organization_id = p_organization AND p.generation = p_generation AND p.home = 'elsewhere' AND p.arrival IS NOT NULL
            AND EXISTS (SELECT FROM app.database)
        RETURNING p.arrival INTO said;
    IF FOUND THEN
        PERFORM app.record_arrival(p_organization, said);
    END IF;
    RETURN FOUND;
END
$$;

-- In the control database: what lived in a database lives in the shared tables again. That database has let it go before, for this
-- generation, and everything was brought by then.
CREATE FUNCTION app.take_back(p_organization uuid, p_generation bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
    said jsonb;
BEGIN
    UPDATE app.placements p SET home = 'shared', moving_to = NULL, moved_at = now(), generation = p_generation,
            old_home = p.home, keep_old_until = coalesce(p.keep_old_until, now() + interval '7 days')
        WHERE p.organization_id = p_organization AND p.generation = p_generation - 1 AND p.home ~ '^database:'
            AND p.moving_to = 'shared' AND p.arrival IS NOT NULL
        RETURNING p.arrival INTO said;
    IF FOUND THEN
        PERFORM app.record_arrival(p_organization, said);
    END IF;
    RETURN FOUND;
END
$$;

REVOKE EXECUTE ON FUNCTION app.database_name, app.record_arrival, app.take_in, app.take_back FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.database_name, app.take_in, app.take_back TO tenantry_app;
";

fn sql() -> String {
    [
        TABLES.to_owned(),
        rls::protect("app.database"),
        rls::touch("app.database"),
        rls::definer("app.database", &[Verb::Select, Verb::Insert]),
        OPENING.to_owned(),
        ARRIVALS.to_owned(),
    ]
    .concat()
}
