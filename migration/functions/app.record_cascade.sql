-- Records and publishes what the deletion of another row does to a row: it is deleted as well, or
-- loses a reference. The deletion of the whole organization is recorded by itself, and copies of
-- rows that live elsewhere do not count. Argument: the resource, as in actions of the audit log.
CREATE OR REPLACE FUNCTION app.record_cascade() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_dedicated boolean := TG_TABLE_SCHEMA ~ '^org_[0-9a-f]{32}$';
    placement    text := (SELECT p.placement FROM app.placements p WHERE p.organization_id = OLD.organization_id);
    remains      boolean;
    logged_at    timestamptz;
    log_id       uuid;
BEGIN
    IF coalesce(placement, 'shared') <> (CASE WHEN is_dedicated THEN 'schema' ELSE 'shared' END)
        OR current_setting('app.replicating', true) = 'on' THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %I.organizations WHERE id = $1)', CASE WHEN is_dedicated THEN TG_TABLE_SCHEMA ELSE 'app' END)
        INTO remains USING OLD.organization_id;
    IF NOT remains THEN
        RETURN NULL;
    END IF;
    EXECUTE format('INSERT INTO %I.audit_logs (organization_id, action, resource_type, resource_id, metadata)
                    VALUES ($1, $2, $3, $4, ''{"cascade": true}'') RETURNING created_at, id', CASE WHEN is_dedicated THEN TG_TABLE_SCHEMA ELSE 'audit' END)
        INTO logged_at, log_id
        USING OLD.organization_id, TG_ARGV[0] || CASE TG_OP WHEN 'DELETE' THEN '.deleted' ELSE '.updated' END, TG_ARGV[0], OLD.id;
    -- In the form of the change feed. Commits with a notification wait for each other: only
    -- deletions that change further rows have one. The limits of a plan count rows.
    PERFORM pg_notify('tenantry', jsonb_build_object('organization', OLD.organization_id, 'changes', jsonb_build_array(
        jsonb_build_object('topic', TG_ARGV[0], 'id', OLD.id), jsonb_build_object('topic', 'entitlements'),
        jsonb_build_object('topic', 'audit_log', 'id', log_id, 'at', logged_at)))::text);
    RETURN NULL;
END
$$;
