//! Organizations may live in a schema of their own: where each lives, and how what is looked up
//! across organizations still finds it.
//!
//! The tables of such a schema are made from the shared ones (`placement.rs`). Its rows are the
//! truth; of what must be found without knowing the organization (its name, its members, its
//! invitations, its customer, what waits to be sent) the shared tables keep a copy, which a trigger
//! keeps in step in the same transaction.

use crate::rls::{self, Verb};

crate::step!("m0013_placement", sql());

const TABLE: &str = r"
-- No foreign key: the audit log outlives its organization, where it lived.
CREATE TABLE app.placements (
    organization_id uuid PRIMARY KEY,
    home            text NOT NULL CHECK (home IN ('shared', 'schema')),
    -- The newest step that its schema has.
    version         text,
    -- On its way there; NULL: it stays.
    moving_to       text CHECK (moving_to IN ('shared', 'schema') AND moving_to <> home),
    moved_at        timestamptz,
    -- Where its rows of before the last move still are, and until when at least.
    old_home        text CHECK (old_home IN ('shared', 'schema') AND old_home <> home),
    keep_old_until  timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE app.placements IS 'An organization without a row lives in the shared tables.';
";

const FUNCTIONS: &str = r"
-- The schema of an organization that has one.
CREATE FUNCTION app.placement_schema(p_organization uuid) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'org_' || replace(p_organization::text, '-', '')
$$;

-- Whoever writes in an organization holds this lock in common until the end of the transaction; whoever moves it takes it alone.
CREATE FUNCTION app.placement_lock(p_organization uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT hashtextextended('placement ' || p_organization::text, 0)
$$;

-- As before, and where the organization lives. outcome ELSEWHERE: not where the server looked (p_home); nothing was opened.
DROP FUNCTION auth.open_request;
CREATE FUNCTION auth.open_request(
    p_issuer text, p_subject text, p_path text, p_claim text, p_email text, p_home text DEFAULT 'shared',
    OUT outcome text, OUT user_id uuid, OUT organization_id uuid, OUT organization_slug text, OUT role text,
    OUT billing_version timestamptz,
    OUT organization_name text, OUT organization_created_at timestamptz, OUT organization_updated_at timestamptz,
    OUT home text, OUT home_version text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, app, billing, pg_temp AS $$
DECLARE
    known_email text;
    from_path   uuid;
    from_claim  uuid;
    asked       uuid;
    may_write   boolean;
    moves       boolean;
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

    asked := CASE WHEN p_path IS NULL THEN from_claim ELSE from_path END;
    may_write := current_setting('transaction_read_only') = 'off';
    IF may_write AND asked IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(app.placement_lock(asked));
    END IF;
    SELECT o.id, o.slug, m.role, b.updated_at, o.name, o.created_at, o.updated_at,
           coalesce(p.home, 'shared'), p.version, p.moving_to IS NOT NULL
        INTO organization_id, organization_slug, role, billing_version,
             organization_name, organization_created_at, organization_updated_at, home, home_version, moves
        FROM auth.organization_members m
            JOIN app.organizations o ON o.id = m.organization_id
            LEFT JOIN billing.organization_billing b ON b.organization_id = m.organization_id
            LEFT JOIN app.placements p ON p.organization_id = m.organization_id
        WHERE m.organization_id = asked AND m.user_id = open_request.user_id;
    IF organization_id IS NULL THEN
        outcome := 'NOT_FOUND';
        RETURN;
    END IF;
    IF home <> p_home THEN
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

-- Goes on inside an organization, in a role or (NULL) in none, and tells where it lives; without an organization, in none.
CREATE FUNCTION auth.enter_organization(
    p_organization uuid, p_role text, OUT home text, OUT home_version text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
    may_write boolean := current_setting('transaction_read_only') = 'off';
    moves     boolean;
BEGIN
    IF may_write AND p_organization IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(app.placement_lock(p_organization));
    END IF;
    SELECT p.home, p.version, p.moving_to IS NOT NULL INTO home, home_version, moves
        FROM app.placements p WHERE p.organization_id = p_organization;
    home := coalesce(home, 'shared');
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

-- Rows that are only brought from one place to another keep their time.
CREATE OR REPLACE FUNCTION app.touch_updated_at() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('app.copying', true) IS DISTINCT FROM 'on' THEN
        NEW.updated_at = now();
    END IF;
    RETURN NEW;
END
$$;

-- Brings a change of an organization's own table to the copy in the shared one. Arguments: that table, and its primary key's columns.
CREATE FUNCTION app.mirror_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shared  text := TG_ARGV[0];
    keys    text := TG_ARGV[1];
    columns text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        EXECUTE format('DELETE FROM %1$s WHERE (%2$s) IN (SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1))', shared, keys)
            USING to_jsonb(OLD);
        RETURN NULL;
    END IF;
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns
        FROM pg_attribute a WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped;
    EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1)
                    ON CONFLICT (%3$s) DO UPDATE SET (%2$s) = ROW(%4$s)',
                   shared, columns, keys, 'excluded.' || replace(columns, ', ', ', excluded.'))
        USING to_jsonb(NEW);
    RETURN NULL;
END
$$;

-- As before; what belongs to an organization on its way stays, and what an organization keeps in its own schema is forgotten there.
CREATE OR REPLACE FUNCTION app.forget_processed() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, billing, auth, pg_temp AS $$
DECLARE
    old       CONSTANT text := $q$(processed_at < now() - interval '30 days'
        OR (due_at IS NULL AND processed_at IS NULL AND created_at < now() - interval '30 days'))$q$;
    forgotten bigint := 0;
    more      bigint;
    own       text;
BEGIN
    EXECUTE 'DELETE FROM app.outbox o WHERE ' || old || ' AND NOT EXISTS (
        SELECT FROM app.placements p WHERE p.organization_id = o.organization_id
            AND (p.home <> ''shared'' OR p.moving_to IS NOT NULL))';
    GET DIAGNOSTICS more = ROW_COUNT;
    forgotten := forgotten + more;
    FOR own IN EXECUTE 'SELECT DISTINCT app.placement_schema(p.organization_id)
        FROM app.outbox o JOIN app.placements p USING (organization_id)
        WHERE p.home = ''schema'' AND p.moving_to IS NULL AND ' || replace(old, 'created_at', 'o.created_at')
    LOOP
        EXECUTE format('DELETE FROM %I.outbox WHERE ', own) || old;
        GET DIAGNOSTICS more = ROW_COUNT;
        forgotten := forgotten + more;
    END LOOP;
    DELETE FROM billing.stripe_events WHERE processed_at < now() - interval '90 days';
    GET DIAGNOSTICS more = ROW_COUNT;
    forgotten := forgotten + more;
    DELETE FROM auth.idempotency_keys WHERE created_at < now() - interval '24 hours';
    GET DIAGNOSTICS more = ROW_COUNT;
    RETURN forgotten + more;
END
$$;

REVOKE EXECUTE ON FUNCTION auth.open_request, auth.enter_organization, app.placement_schema, app.placement_lock, app.mirror_row
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.open_request, auth.enter_organization TO tenantry_app;
";

fn sql() -> String {
    [
        TABLE.to_owned(),
        rls::protect("app.placements"),
        rls::touch("app.placements"),
        rls::definer("app.placements", &[Verb::Select]),
        rls::definer("app.organizations", &[Verb::Insert, Verb::Update, Verb::Delete]),
        rls::definer("auth.organization_members", &[Verb::Insert, Verb::Update, Verb::Delete]),
        rls::definer("auth.invitations", &[Verb::Insert, Verb::Update]),
        rls::definer("billing.organization_billing", &[Verb::Insert, Verb::Delete]),
        rls::definer("app.outbox", &[Verb::Insert, Verb::Update]),
        FUNCTIONS.to_owned(),
    ]
    .concat()
}
