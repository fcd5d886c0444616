//! Organizations may live in a database of their own, on any server: which, only the control database knows.
//!
//! Such a database has the same tables, and its organizations are in the shared ones. Of each organization there it says whether it
//! lives there (`shared`) or not (`elsewhere`: ask the control database), so that a request needs no more than one of the two. It has
//! copies of the people whom it needs, and of the catalogue; the control database keeps a directory of what is there, as it does of
//! schemas, which follows what was committed.

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
    -- What the audit log is to say when it arrives.
    ADD COLUMN arrival jsonb,
    ADD CONSTRAINT placements_home CHECK (home ~ '^(shared|schema|elsewhere|database:[a-z][a-z0-9_-]{0,39})$'),
    ADD CONSTRAINT placements_moving_to
        CHECK (moving_to ~ '^(shared|schema|elsewhere|database:[a-z][a-z0-9_-]{0,39})$' AND moving_to <> home),
    ADD CONSTRAINT placements_old_home
        CHECK (old_home ~ '^(shared|schema|elsewhere|database:[a-z][a-z0-9_-]{0,39})$' AND old_home <> home);

-- What has changed in a database of organizations' own, and is to be found through the control database.
CREATE TABLE app.directory_changes (
    number          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id uuid NOT NULL,
    table_name      text NOT NULL,
    -- The primary key of the row that was written or deleted.
    key             jsonb NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);

-- Who has changed in the control database, and is known in others.
CREATE TABLE auth.people_changes (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
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
LANGUAGE sql SET search_path = audit, pg_temp AS $$
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
        WHERE p.organization_id = p_organization AND p.generation = p_generation AND p.home = 'elsewhere'
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
            AND p.moving_to = 'shared'
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

const PEOPLE: &str = r"
-- In the control database: a person as other databases know them; NULL: there is none.
CREATE FUNCTION auth.copy_of_person(p_user uuid) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = auth, pg_temp AS $$
    SELECT jsonb_build_object('user', to_jsonb(u), 'identities',
               (SELECT coalesce(jsonb_agg(to_jsonb(i)), '[]') FROM auth.identities i WHERE i.user_id = u.id))
    FROM auth.users u WHERE u.id = p_user
$$;

-- In a database of organizations' own: the person as the control database knows them.
CREATE FUNCTION auth.bring_person(p_person jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
DECLARE
    person auth.users := jsonb_populate_record(NULL::auth.users, p_person -> 'user');
    before text := coalesce(current_setting('app.copying', true), '');
BEGIN
    IF NOT EXISTS (SELECT FROM app.database) THEN
        RAISE 'people are not brought to the control database';
    END IF;
    -- Whoever brings the same person meanwhile, with news that are older or younger, waits.
    PERFORM pg_advisory_xact_lock(hashtextextended('person ' || person.id::text, 0));
    PERFORM set_config('app.copying', 'on', true);
    -- Addresses go from one person to another.
    UPDATE auth.users u SET email = NULL WHERE u.email = person.email AND u.id <> person.id;
    INSERT INTO auth.users AS u VALUES (person.*)
        ON CONFLICT (id) DO UPDATE SET email = excluded.email, name = excluded.name, updated_at = excluded.updated_at
        -- Somebody may have brought younger news since these were read.
        WHERE u.updated_at <= excluded.updated_at AND (u.email, u.name) IS DISTINCT FROM (excluded.email, excluded.name);
    DELETE FROM auth.identities i WHERE i.user_id = person.id AND NOT EXISTS (
        SELECT FROM jsonb_populate_recordset(NULL::auth.identities, p_person -> 'identities') n
            WHERE (n.issuer, n.subject) = (i.issuer, i.subject));
    INSERT INTO auth.identities AS i SELECT * FROM jsonb_populate_recordset(NULL::auth.identities, p_person -> 'identities')
        ON CONFLICT (issuer, subject) DO UPDATE SET user_id = excluded.user_id, email = excluded.email, updated_at = excluded.updated_at
        WHERE i.updated_at <= excluded.updated_at AND (i.user_id, i.email) IS DISTINCT FROM (excluded.user_id, excluded.email);
    PERFORM set_config('app.copying', before, true);
END
$$;

CREATE FUNCTION auth.note_person() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, app, pg_temp AS $$
BEGIN
    INSERT INTO auth.people_changes (user_id) SELECT NEW.id WHERE EXISTS (
        SELECT FROM auth.organization_members m JOIN app.placements p USING (organization_id)
            WHERE m.user_id = NEW.id AND p.home ~ '^database:');
    RETURN NULL;
END
$$;
CREATE TRIGGER note_person AFTER UPDATE OF email, name ON auth.users FOR EACH ROW
    WHEN ((OLD.email, OLD.name) IS DISTINCT FROM (NEW.email, NEW.name)) EXECUTE FUNCTION auth.note_person();

-- Who has changed, oldest news first, as they are now, and which databases know them; whoever asks meanwhile waits.
CREATE FUNCTION auth.people_news(p_limit integer) RETURNS TABLE (numbers bigint[], person jsonb, databases text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, app, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('tenantry people', 0));
    RETURN QUERY
        SELECT array_agg(c.number), auth.copy_of_person(c.user_id),
               (SELECT coalesce(array_agg(DISTINCT substring(p.home FROM 10)), '{}')
                    FROM auth.organization_members m JOIN app.placements p USING (organization_id)
                    WHERE m.user_id = c.user_id AND p.home ~ '^database:')
        FROM (SELECT n.number, n.user_id FROM auth.people_changes n ORDER BY n.number LIMIT p_limit) c
        GROUP BY c.user_id;
END
$$;

CREATE FUNCTION auth.people_followed(p_numbers bigint[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
    DELETE FROM auth.people_changes WHERE number = ANY (p_numbers)
$$;

REVOKE EXECUTE ON FUNCTION auth.copy_of_person, auth.bring_person, auth.note_person, auth.people_news, auth.people_followed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.copy_of_person, auth.bring_person, auth.people_news, auth.people_followed TO tenantry_app;
";

const DIRECTORY: &str = r"
-- The tables that the directory has copies of, what others refer to first, and their primary keys.
CREATE FUNCTION app.directory_tables() RETURNS TABLE (place bigint, name text, base_name text, key text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ordinality, v.name, split_part(v.name, '.', 2), v.key FROM unnest(
        ARRAY['app.organizations', 'auth.organization_members', 'auth.invitations', 'billing.organization_billing', 'app.outbox'],
        ARRAY['id', 'organization_id, id', 'organization_id, id', 'organization_id', 'organization_id, id'])
        WITH ORDINALITY v (name, key, ordinality)
$$;

-- Arguments: the columns of the primary key.
CREATE FUNCTION app.note_directory_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
BEGIN
    INSERT INTO app.directory_changes (organization_id, table_name, key)
        SELECT (changed ->> TG_ARGV[0])::uuid, TG_TABLE_NAME, jsonb_object_agg(k, changed -> k) FROM unnest(TG_ARGV) k;
    RETURN NULL;
END
$$;

-- What the control database is to be told: rows as they are now (NULL: there is none any more), oldest news first. Whoever asks
-- meanwhile waits, so that older rows do not come behind younger ones.
CREATE FUNCTION app.directory_news(p_limit integer) RETURNS TABLE (numbers bigint[], news jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
    seen  bigint[];
    known record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('tenantry directory', 0));
    seen := ARRAY(SELECT c.number FROM app.directory_changes c ORDER BY c.number LIMIT p_limit);
    FOR known IN SELECT * FROM app.directory_tables() t ORDER BY t.place LOOP
        RETURN QUERY EXECUTE format(
            'SELECT c.numbers, jsonb_build_object(''table'', %2$L, ''organization'', c.organization_id, ''key'', c.key, ''row'', r.content)
             FROM (SELECT array_agg(number) AS numbers, max(number) AS newest, organization_id, key
                   FROM app.directory_changes WHERE number = ANY ($1) AND table_name = %3$L GROUP BY organization_id, key) c
                 LEFT JOIN LATERAL (SELECT to_jsonb(t) AS content FROM %1$s t
                                    WHERE (%4$s) IN (SELECT %4$s FROM jsonb_populate_record(NULL::%1$s, c.key))) r ON true
             ORDER BY c.newest', known.name, known.name, known.base_name, known.key)
            USING seen;
    END LOOP;
END
$$;

CREATE FUNCTION app.directory_followed(p_numbers bigint[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
    DELETE FROM app.directory_changes WHERE number = ANY (p_numbers)
$$;

-- In the control database: brings the directory after what was committed in a database, for organizations that live there. Answers
-- which could not be brought, and why; the others were.
CREATE FUNCTION app.follow_directory(p_database text, p_news jsonb) RETURNS TABLE (organization uuid, reason text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, auth, pg_temp AS $$
DECLARE
    whose   uuid;
    news    record;
    columns text;
BEGIN
    PERFORM set_config('app.copying', 'on', true);
    FOR whose IN
        SELECT DISTINCT (n ->> 'organization')::uuid FROM jsonb_array_elements(p_news) n
            JOIN app.placements p ON p.organization_id = (n ->> 'organization')::uuid AND p.home = 'database:' || p_database
    LOOP
        BEGIN
            -- First what makes room: children before parents, and what is gone before what is new.
            FOR news IN
                SELECT t.*, n.value -> 'key' AS gone
                FROM jsonb_array_elements(p_news) WITH ORDINALITY n (value, ordinality)
                    JOIN app.directory_tables() t ON t.name = n.value ->> 'table'
                WHERE (n.value ->> 'organization')::uuid = whose AND jsonb_typeof(n.value -> 'row') = 'null'
                    AND (n.value #>> ARRAY['key', split_part(t.key, ', ', 1)])::uuid = whose
                ORDER BY t.place DESC, n.ordinality
            LOOP
                EXECUTE format('DELETE FROM %1$s WHERE (%2$s) IN (SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1))',
                               news.name, news.key) USING news.gone;
                IF news.base_name = 'organizations' THEN
                    UPDATE app.organization_slugs SET retired_at = now() WHERE organization_id = whose;
                END IF;
            END LOOP;
            FOR news IN
                SELECT t.*, n.value -> 'row' AS content
                FROM jsonb_array_elements(p_news) WITH ORDINALITY n (value, ordinality)
                    JOIN app.directory_tables() t ON t.name = n.value ->> 'table'
                WHERE (n.value ->> 'organization')::uuid = whose AND jsonb_typeof(n.value -> 'row') = 'object'
                    AND (n.value #>> ARRAY['row', split_part(t.key, ', ', 1)])::uuid = whose
                ORDER BY t.place, n.ordinality
            LOOP
                IF news.base_name = 'organizations' THEN
                    INSERT INTO app.organization_slugs AS s (slug, organization_id) VALUES (news.content ->> 'slug', whose)
                        ON CONFLICT (slug) DO UPDATE SET retired_at = NULL
                        WHERE s.organization_id = whose AND s.retired_at IS NOT NULL;
                    UPDATE app.organization_slugs SET retired_at = now()
                        WHERE organization_id = whose AND slug <> news.content ->> 'slug' AND retired_at IS NULL;
                ELSIF news.base_name = 'organization_members' THEN
                    INSERT INTO auth.people_changes (user_id) VALUES ((news.content ->> 'user_id')::uuid);
                END IF;
                SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns
                    FROM pg_attribute a WHERE a.attrelid = news.name::regclass AND a.attnum > 0 AND NOT a.attisdropped;
                EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1)
                                ON CONFLICT (%3$s) DO UPDATE SET (%2$s) = ROW(%4$s)',
                               news.name, columns, news.key, 'excluded.' || replace(columns, ', ', ', excluded.'))
                    USING news.content;
            END LOOP;
        EXCEPTION WHEN integrity_constraint_violation THEN
            organization := whose;
            reason := SQLERRM;
            RETURN NEXT;
        END;
    END LOOP;
    PERFORM set_config('app.copying', '', true);
END
$$;

-- In the control database: keeps a slug for an organization that lives in another, whose member asks. What comes of it the directory
-- says; until then it leads there as one of before would. Answers as app.claim_slug.
CREATE FUNCTION app.reserve_slug(p_organization uuid, p_slug text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, auth, pg_temp AS $$
DECLARE
    person uuid := nullif(current_setting('app.current_user_id', true), '')::uuid;
BEGIN
    IF NOT EXISTS (SELECT FROM auth.organization_members m WHERE m.organization_id = p_organization AND m.user_id = person) THEN
        RETURN 'TAKEN';
    END IF;
    IF (SELECT count(*) FROM app.organization_slugs s
            WHERE s.claimed_by = person AND s.retired_at > now() - interval '90 days') >= 20 THEN
        RETURN 'TOO_MANY';
    END IF;
    INSERT INTO app.organization_slugs AS s (slug, organization_id, claimed_by, retired_at) VALUES (p_slug, p_organization, person, now())
        ON CONFLICT (slug) DO UPDATE SET organization_id = p_organization, claimed_by = person, retired_at = now()
        WHERE s.retired_at IS NOT NULL AND (s.organization_id = p_organization OR s.retired_at < now() - interval '90 days');
    IF FOUND OR EXISTS (SELECT FROM app.organization_slugs s WHERE s.slug = p_slug AND s.organization_id = p_organization) THEN
        RETURN 'CLAIMED';
    END IF;
    RETURN 'TAKEN';
END
$$;

REVOKE EXECUTE ON FUNCTION app.directory_tables, app.note_directory_change, app.directory_news, app.directory_followed, app.follow_directory,
    app.reserve_slug FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.directory_news, app.directory_followed, app.follow_directory, app.reserve_slug TO tenantry_app;
";

fn sql() -> String {
    let (changes, people) = ("app.directory_changes", "auth.people_changes");
    let queue = &[Verb::Select, Verb::Insert, Verb::Delete];
    [
        TABLES.to_owned(),
        rls::protect("app.database"),
        rls::touch("app.database"),
        rls::definer("app.database", &[Verb::Select, Verb::Insert]),
        rls::protect(changes),
        rls::definer(changes, queue),
        rls::protect(people),
        rls::definer(people, queue),
        rls::definer("auth.identities", &[Verb::Delete]),
        rls::definer("app.organization_slugs", &[Verb::Delete]),
        OPENING.to_owned(),
        ARRIVALS.to_owned(),
        PEOPLE.to_owned(),
        DIRECTORY.to_owned(),
    ]
    .concat()
}
