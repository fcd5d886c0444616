//! The directory of the control database follows what is committed in databases of organizations'
//! own, and what these know of people follows the control database. What is noted is which rows
//! have changed, and what is brought is how they are.

use crate::rls::{self, Verb};

crate::step!("m0018_directory", sql());

const TABLES: &str = r"
-- What has changed in a database of organizations' own, and is to be found through the control database.
CREATE TABLE app.directory_changes (
    number          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id uuid NOT NULL,
    table_name      text NOT NULL,
    -- The primary key of the row that was written or deleted.
    key             jsonb NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON app.directory_changes (organization_id);

-- Who has changed in the control database, and is known in others.
CREATE TABLE auth.people_changes (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    uuid NOT NULL,
    database   text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
";

const PEOPLE: &str = r"
-- In the control database: a person as other databases know them; NULL: there is none. In a transaction that may write they stay as they
-- are until its end, so that whoever brings them brings nothing that is out of date by then.
CREATE FUNCTION auth.copy_of_person(p_user uuid) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
BEGIN
    IF current_setting('transaction_read_only') = 'off' THEN
        PERFORM FROM auth.users u WHERE u.id = p_user FOR SHARE;
    END IF;
    RETURN (SELECT jsonb_build_object('user', to_jsonb(u), 'identities',
                       (SELECT coalesce(jsonb_agg(to_jsonb(i)), '[]') FROM auth.identities i WHERE i.user_id = u.id))
            FROM auth.users u WHERE u.id = p_user);
END
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
    IF EXISTS (SELECT FROM auth.users u WHERE u.id = person.id AND u.updated_at > person.updated_at) THEN
        -- Somebody has brought younger news since these were read.
        RETURN;
    END IF;
    PERFORM set_config('app.copying', 'on', true);
    -- Addresses go from one person to another.
    UPDATE auth.users u SET email = NULL WHERE u.email = person.email AND u.id <> person.id;
    INSERT INTO auth.users AS u VALUES (person.*)
        ON CONFLICT (id) DO UPDATE SET email = excluded.email, name = excluded.name, updated_at = excluded.updated_at
        WHERE (u.email, u.name) IS DISTINCT FROM (excluded.email, excluded.name);
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
    INSERT INTO auth.people_changes (user_id, database)
        SELECT DISTINCT NEW.id, substring(p.home FROM 10)
        FROM auth.organization_members m JOIN app.placements p USING (organization_id)
        WHERE m.user_id = NEW.id AND p.home ~ '^database:';
    RETURN NULL;
END
$$;
CREATE TRIGGER note_person AFTER UPDATE OF email, name ON auth.users FOR EACH ROW
    WHEN ((OLD.email, OLD.name) IS DISTINCT FROM (NEW.email, NEW.name)) EXECUTE FUNCTION auth.note_person();

-- Who has changed, and is to be brought to which database, oldest news first; those in p_except can wait.
CREATE FUNCTION auth.people_news(p_limit integer, p_except text[]) RETURNS TABLE (number bigint, user_id uuid, database text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = auth, pg_temp AS $$
    SELECT c.number, c.user_id, c.database FROM auth.people_changes c WHERE c.database <> ALL (p_except) ORDER BY c.number LIMIT p_limit
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
-- meanwhile waits, so that older rows do not come behind younger ones. The organizations in p_except can wait.
CREATE FUNCTION app.directory_news(p_limit integer, p_except uuid[] DEFAULT '{}') RETURNS TABLE (numbers bigint[], news jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
    seen  bigint[];
    known record;
BEGIN
    -- Most changes are none of the directory's, and whoever has noted one sees it.
    IF NOT EXISTS (SELECT FROM app.directory_changes) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('tenantry directory', 0));
    seen := ARRAY(SELECT c.number FROM app.directory_changes c WHERE c.organization_id <> ALL (p_except) ORDER BY c.number LIMIT p_limit);
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
    theirs  jsonb;
    news    record;
    columns text;
BEGIN
    -- Somebody who gave up waiting for this may have left one that still runs.
    PERFORM pg_advisory_xact_lock(hashtextextended('directory of ' || p_database, 0));
    PERFORM set_config('app.copying', 'on', true);
    FOR whose, theirs IN
        SELECT p.organization_id, jsonb_agg(n.value ORDER BY n.ordinality)
        FROM jsonb_array_elements(p_news) WITH ORDINALITY n (value, ordinality)
            JOIN app.placements p ON p.organization_id = (n.value ->> 'organization')::uuid AND p.home = 'database:' || p_database
        GROUP BY p.organization_id
    LOOP
        BEGIN
            -- First what makes room: children before parents, what is gone before what is there, and what has changed before what is new.
            FOR news IN
                SELECT t.*, n.value -> 'key' AS gone
                FROM jsonb_array_elements(theirs) WITH ORDINALITY n (value, ordinality)
                    JOIN app.directory_tables() t ON t.name = n.value ->> 'table'
                WHERE jsonb_typeof(n.value -> 'row') = 'null' AND (n.value #>> ARRAY['key', split_part(t.key, ', ', 1)])::uuid = whose
                ORDER BY t.place DESC, n.ordinality
            LOOP
                EXECUTE format('DELETE FROM %1$s WHERE (%2$s) IN (SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1))',
                               news.name, news.key) USING news.gone;
                IF news.base_name = 'organizations' THEN
                    UPDATE app.organization_slugs SET retired_at = now() WHERE organization_id = whose;
                END IF;
            END LOOP;
            FOR news IN
                SELECT passes, t.*, n.value -> 'row' AS content
                FROM generate_series(1, 2) passes, jsonb_array_elements(theirs) WITH ORDINALITY n (value, ordinality)
                    JOIN app.directory_tables() t ON t.name = n.value ->> 'table'
                WHERE jsonb_typeof(n.value -> 'row') = 'object' AND (n.value #>> ARRAY['row', split_part(t.key, ', ', 1)])::uuid = whose
                ORDER BY passes, t.place, n.ordinality
            LOOP
                -- The other database may lack a column that there is here, or have one more, while it is migrated.
                SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns
                    FROM pg_attribute a
                    WHERE a.attrelid = news.name::regclass AND a.attnum > 0 AND NOT a.attisdropped AND news.content ? a.attname;
                IF news.passes = 1 THEN
                    EXECUTE format('UPDATE %1$s SET (%2$s) = (SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1))
                                    WHERE (%3$s) IN (SELECT %3$s FROM jsonb_populate_record(NULL::%1$s, $1))',
                                   news.name, columns, news.key) USING news.content;
                    CONTINUE;
                END IF;
                IF news.base_name = 'organizations' THEN
                    INSERT INTO app.organization_slugs AS s (slug, organization_id) VALUES (news.content ->> 'slug', whose)
                        ON CONFLICT (slug) DO UPDATE SET retired_at = NULL
                        WHERE s.organization_id = whose AND s.retired_at IS NOT NULL;
                    UPDATE app.organization_slugs SET retired_at = now()
                        WHERE organization_id = whose AND slug <> news.content ->> 'slug' AND retired_at IS NULL;
                ELSIF news.base_name = 'organization_members' THEN
                    INSERT INTO auth.people_changes (user_id, database) VALUES ((news.content ->> 'user_id')::uuid, p_database);
                END IF;
                EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1) ON CONFLICT (%3$s) DO NOTHING',
                               news.name, columns, news.key) USING news.content;
            END LOOP;
        EXCEPTION WHEN OTHERS THEN
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

const MAIL: &str = r"
-- As before, without what waits in databases that do not answer: p_except, by name.
CREATE FUNCTION app.due_outbox(p_kind text, p_now timestamptz, p_limit integer, p_except text[])
RETURNS TABLE (organization_id uuid, id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
    SELECT o.organization_id, o.id FROM app.outbox o
        WHERE o.processed_at IS NULL AND o.due_at <= p_now AND o.kind = p_kind
            AND (p_except = '{}' OR NOT EXISTS (
                SELECT FROM app.placements p WHERE p.organization_id = o.organization_id AND substring(p.home FROM '^database:(.*)') = ANY (p_except)))
        ORDER BY o.due_at LIMIT p_limit
$$;
REVOKE EXECUTE ON FUNCTION app.due_outbox(text, timestamptz, integer, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.due_outbox(text, timestamptz, integer, text[]) TO tenantry_app;
";

const MOVING: &str = r"
-- As before, but only for the organization that is on its way: whoever writes in it may go on in another one.
CREATE OR REPLACE FUNCTION app.note_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
BEGIN
    INSERT INTO app.pending_changes (organization_id, table_name, key)
        SELECT p.organization_id,
               (SELECT c.relname FROM pg_class c WHERE c.oid = coalesce(pg_partition_root(TG_RELID), TG_RELID)),
               jsonb_object_agg(k, changed -> k)
        FROM app.placements p CROSS JOIN unnest(TG_ARGV) k
        WHERE p.organization_id = (changed ->> TG_ARGV[0])::uuid AND p.moving_to IS NOT NULL
        GROUP BY p.organization_id;
    RETURN NULL;
END
$$;
";

fn sql() -> String {
    let (changes, people) = ("app.directory_changes", "auth.people_changes");
    let queue = &[Verb::Select, Verb::Insert, Verb::Delete];
    [
        TABLES.to_owned(),
        rls::protect(changes),
        rls::definer(changes, queue),
        rls::protect(people),
        rls::definer(people, queue),
        rls::definer("auth.identities", &[Verb::Delete]),
        rls::definer("app.organization_slugs", &[Verb::Delete]),
        PEOPLE.to_owned(),
        DIRECTORY.to_owned(),
        MAIL.to_owned(),
        MOVING.to_owned(),
    ]
    .concat()
}
