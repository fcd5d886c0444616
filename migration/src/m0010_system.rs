//! Work without a person: the outbox, Stripe's inbox, metering and maintenance, each by a narrow
//! door.

use crate::{
    audit_partitions,
    rls::{self, Verb},
};

crate::step!("m0010_system", sql());

const SQL: &str = r"
-- As before, and tells when the organization's billing changed last, so that a server notices with the very next request.
DROP FUNCTION auth.open_request;
CREATE FUNCTION auth.open_request(
    p_issuer text, p_subject text, p_path text, p_claim text, p_email text,
    OUT outcome text, OUT user_id uuid, OUT organization_id uuid, OUT organization_slug text, OUT role text,
    OUT billing_version timestamptz
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
        outcome := 'OK';
        RETURN;
    END IF;

    SELECT o.id, o.slug, m.role, b.updated_at INTO organization_id, organization_slug, role, billing_version
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

-- The verified address of the identity's last token. It decides what is news, so that a person with two identities, each with an
-- address of its own, does not move from one to the other with every request.
ALTER TABLE auth.identities ADD COLUMN email text;

-- As before, and keeps the address of a known identity's person true: one that they have no longer is free for others, and would
-- otherwise let whoever gets it after them be taken for them.
CREATE OR REPLACE FUNCTION auth.provision_user(p_issuer text, p_subject text, p_email text, p_name text) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
DECLARE
    found_id uuid;
BEGIN
    -- Two first requests of one person wait for each other instead of leaving a user without an identity behind.
    PERFORM pg_advisory_xact_lock(hashtextextended(p_issuer || E'\n' || p_subject, 0));
    SELECT i.user_id INTO found_id FROM auth.identities i
        WHERE i.issuer = p_issuer AND i.subject = p_subject;
    IF found_id IS NOT NULL THEN
        UPDATE auth.identities i SET email = p_email
            WHERE i.issuer = p_issuer AND i.subject = p_subject AND p_email IS NOT NULL;
        -- An address that somebody else has is theirs.
        UPDATE auth.users u
            SET email = CASE WHEN EXISTS (SELECT FROM auth.users o WHERE o.email = p_email AND o.id <> found_id)
                             THEN NULL ELSE p_email END
            WHERE u.id = found_id AND p_email IS NOT NULL AND u.email IS DISTINCT FROM p_email;
        RETURN found_id;
    END IF;
    INSERT INTO auth.users (email, name) VALUES (p_email, p_name)
        ON CONFLICT (email) DO NOTHING RETURNING id INTO found_id;
    IF found_id IS NULL THEN
        SELECT u.id INTO STRICT found_id FROM auth.users u WHERE u.email = p_email;
    END IF;
    INSERT INTO auth.identities (issuer, subject, user_id, email) VALUES (p_issuer, p_subject, found_id, p_email);
    RETURN found_id;
END
$$;

-- Who claimed a slug: each slug is closed to others for 90 days, so a person may give up only so many in that time.
ALTER TABLE app.organization_slugs ADD COLUMN claimed_by uuid;
CREATE INDEX ON app.organization_slugs (claimed_by);

-- Makes a slug the current one of the current organization: CLAIMED; TAKEN when somebody else holds it, or held it within the
-- last 90 days; TOO_MANY when the person gave up 20 in that time. The one before is retired and goes on leading members here.
DROP FUNCTION app.claim_slug;
CREATE FUNCTION app.claim_slug(p_slug text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$
DECLARE
    current_id uuid := nullif(current_setting('app.current_org_id', true), '')::uuid;
    person     uuid := nullif(current_setting('app.current_user_id', true), '')::uuid;
BEGIN
    IF (SELECT count(*) FROM app.organization_slugs s
            WHERE s.claimed_by = person AND s.retired_at > now() - interval '90 days') >= 20 THEN
        RETURN 'TOO_MANY';
    END IF;
    INSERT INTO app.organization_slugs AS s (slug, organization_id, claimed_by) VALUES (p_slug, current_id, person)
        ON CONFLICT (slug) DO UPDATE SET organization_id = current_id, claimed_by = person, retired_at = NULL
        WHERE s.organization_id = current_id OR s.retired_at < now() - interval '90 days';
    IF NOT FOUND THEN
        RETURN 'TAKEN';
    END IF;
    UPDATE app.organization_slugs SET retired_at = now()
        WHERE organization_id = current_id AND slug <> p_slug AND retired_at IS NULL;
    RETURN 'CLAIMED';
END
$$;

-- Retires the slugs of the current organization, which is about to end, those before as well: nobody can take any of them for
-- 90 days.
CREATE OR REPLACE FUNCTION app.retire_slugs() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
    UPDATE app.organization_slugs SET retired_at = now()
        WHERE organization_id = nullif(current_setting('app.current_org_id', true), '')::uuid
$$;

-- The grace after a failed payment runs from here, whatever else changes meanwhile.
ALTER TABLE billing.organization_billing ADD COLUMN past_due_since timestamptz;

-- What nobody but its writer works off is never due.
ALTER TABLE app.outbox ALTER COLUMN due_at DROP NOT NULL;

-- The outbox is worked off across organizations, oldest first.
CREATE INDEX outbox_due ON app.outbox (due_at) WHERE processed_at IS NULL;

-- What is due; whoever works on a row then goes through the organization's own settings.
CREATE FUNCTION app.due_outbox(p_kind text, p_now timestamptz, p_limit integer)
RETURNS TABLE (organization_id uuid, id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
    SELECT o.organization_id, o.id FROM app.outbox o
        WHERE o.processed_at IS NULL AND o.due_at <= p_now AND o.kind = p_kind ORDER BY o.due_at LIMIT p_limit
$$;

-- Forgets what was done long ago: letters after 30 days, what Stripe sent after 90, which may name people.
CREATE FUNCTION app.forget_processed() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = app, billing, pg_temp AS $$
    WITH letters AS (DELETE FROM app.outbox WHERE processed_at < now() - interval '30 days' RETURNING 1),
         intents AS (DELETE FROM app.outbox WHERE due_at IS NULL AND created_at < now() - interval '30 days'
                                              AND processed_at IS NULL RETURNING 1),
         events AS (DELETE FROM billing.stripe_events WHERE processed_at < now() - interval '90 days' RETURNING 1)
    SELECT (SELECT count(*) FROM letters) + (SELECT count(*) FROM intents) + (SELECT count(*) FROM events)
$$;

-- The organization with this id, or this slug, current or retired, whether or not it still exists.
CREATE FUNCTION app.find_organization(p_name text) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
    SELECT s.organization_id FROM app.organization_slugs s
        WHERE s.slug = p_name OR s.organization_id::text = lower(p_name) LIMIT 1
$$;

-- Keeps an event of Stripe's before anything is made of it; true when it was applied before.
CREATE FUNCTION billing.receive_stripe_event(p_id text, p_type text, p_created timestamptz, p_payload jsonb) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = billing, pg_temp AS $$
    INSERT INTO billing.stripe_events AS e (id, type, created, payload, attempts)
        VALUES (p_id, p_type, p_created, p_payload, 1)
        ON CONFLICT (id) DO UPDATE SET attempts = e.attempts + 1
        RETURNING processed_at IS NOT NULL
$$;

-- The event, for whoever applies it: others who have the same in hand wait here.
CREATE FUNCTION billing.claim_stripe_event(p_id text)
RETURNS TABLE (payload jsonb, processed boolean)
LANGUAGE sql SECURITY DEFINER SET search_path = billing, pg_temp AS $$
    SELECT e.payload, e.processed_at IS NOT NULL FROM billing.stripe_events e WHERE e.id = p_id FOR UPDATE
$$;

-- What became of an event: applied, or (with an error) not yet.
CREATE FUNCTION billing.finish_stripe_event(p_id text, p_error text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = billing, pg_temp AS $$
    UPDATE billing.stripe_events
        SET error = p_error, processed_at = CASE WHEN p_error IS NULL THEN now() ELSE processed_at END
        WHERE id = p_id
$$;

-- Whose customer it is at Stripe's; else the organization that we named when the subscription was begun, if it has none.
CREATE FUNCTION billing.find_organization(p_customer text, p_organization uuid) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = billing, pg_temp AS $$
    SELECT b.organization_id FROM billing.organization_billing b
        WHERE b.stripe_customer_id = p_customer
           OR (b.organization_id = p_organization AND b.stripe_customer_id IS NULL)
        ORDER BY b.stripe_customer_id NULLS LAST LIMIT 1
$$;

-- The partitions of the audit log; none while it is a plain table. Null: without an upper bound.
CREATE FUNCTION audit.partitions() RETURNS TABLE (name text, upper_bound timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('%I.%I', n.nspname, c.relname),
           substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$TO \('([^']+)'\)$re$)::timestamptz
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE i.inhparent = 'audit.audit_logs'::regclass AND c.relkind = 'r'
$$;

-- Makes the partitions of the audit log up to three months ahead, and tells their names; does nothing to a plain table. Rows
-- that fell into the default partition meanwhile move to where they belong.
CREATE FUNCTION audit.ensure_partitions() RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    lower_bound timestamptz;
    next_bound  timestamptz;
    month       text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit.ensure_partitions', 0));
    SELECT max(p.upper_bound) INTO lower_bound FROM audit.partitions() p;
    WHILE lower_bound <= now() + interval '3 months' LOOP
        next_bound := lower_bound + interval '1 month';
        month := 'audit_logs_' || to_char(lower_bound, 'YYYY_MM');
        EXECUTE format('CREATE TABLE audit.%I (LIKE audit.audit_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)', month);
        EXECUTE format('WITH moved AS (DELETE FROM audit.audit_logs WHERE created_at >= %L AND created_at < %L RETURNING *)
                        INSERT INTO audit.%I SELECT * FROM moved', lower_bound, next_bound, month);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', month);
        EXECUTE format('ALTER TABLE audit.audit_logs ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)',
                       month, lower_bound, next_bound);
        RETURN NEXT 'audit.' || month;
        lower_bound := next_bound;
    END LOOP;
END
$$;

REVOKE EXECUTE ON FUNCTION auth.open_request, app.claim_slug, app.due_outbox, app.forget_processed, app.find_organization, billing.receive_stripe_event,
    billing.claim_stripe_event, billing.finish_stripe_event, billing.find_organization, audit.partitions,
    audit.ensure_partitions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.open_request, app.claim_slug, app.due_outbox, app.forget_processed, app.find_organization, billing.receive_stripe_event,
    billing.claim_stripe_event, billing.finish_stripe_event, billing.find_organization,
    audit.ensure_partitions TO tenantry_app;
";

fn sql() -> String {
    [
        rls::definer("app.outbox", &[Verb::Select, Verb::Delete]),
        rls::definer(
            "billing.stripe_events",
            &[Verb::Select, Verb::Insert, Verb::Update, Verb::Delete],
        ),
        rls::definer("billing.organization_billing", &[Verb::Select, Verb::Update]),
        rls::definer("auth.users", &[Verb::Update, Verb::Delete]),
        rls::definer("auth.identities", &[Verb::Update]),
        rls::definer("auth.invitations", &[Verb::Delete]),
        audit_partitions::maintenance(),
        SQL.to_owned(),
    ]
    .concat()
}
