-- Records and publishes what the deletion of another row does to the rows of a table: they are
-- deleted as well, or lose a reference. The deletion of the whole organization is recorded by
-- itself, and copies of rows that live elsewhere do not count. Arguments: the resource, as in
-- actions of the audit log; the columns of the primary key; the references that a deletion sets to
-- null.
--
-- A statement is recorded as a whole, so its cost hardly depends on the number of rows. Where a
-- table refers to itself, PostgreSQL reports the rows that the statement names with those that
-- follow.
CREATE OR REPLACE FUNCTION app.record_cascade() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_dedicated boolean := TG_TABLE_SCHEMA ~ '^org_[0-9a-f]{32}$';
    omitted      text[] := array_append(TG_ARGV[2:], 'updated_at');
    changed      jsonb[];
BEGIN
    IF current_setting('app.replicating', true) = 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        changed := ARRAY(SELECT to_jsonb(g) FROM gone g);
    ELSE
        -- Rows that differ in these references only.
        changed := ARRAY(
            SELECT DISTINCT to_jsonb(g) - omitted
            FROM gone g JOIN kept k ON to_jsonb(g) - omitted = to_jsonb(k) - omitted
            WHERE to_jsonb(g) - 'updated_at'::text <> to_jsonb(k) - 'updated_at'::text);
    END IF;
    IF changed = '{}' THEN
        RETURN NULL;
    END IF;
    -- In the form of the change feed, which carries 50 changes at most; subscribers start again
    -- after more. COMMITs with a notification wait for each other, so only such deletions send one.
    -- Entitlements are included because plan limits count rows.
    EXECUTE format($sql$
        WITH entry AS (
            INSERT INTO %I.audit_logs (organization_id, action, resource_type, resource_id, metadata)
                SELECT o.id, $2 || $3, $2, CASE WHEN 'id' = ANY ($4) THEN (c ->> 'id')::uuid END,
                       '{"cascade": true}' || coalesce((SELECT jsonb_object_agg(k, c -> k) FROM unnest($4) k
                                                        WHERE k NOT IN ('organization_id', 'id')), '{}')
                FROM unnest($1) c JOIN %I.organizations o ON o.id = (c ->> 'organization_id')::uuid
                    LEFT JOIN app.placements p ON p.organization_id = o.id
                WHERE coalesce(p.placement, 'shared') = $5
                RETURNING organization_id, resource_id, created_at, id)
        SELECT pg_notify('tenantry', jsonb_build_object(
            'organization', organization_id, 'lost', count(*) > 20,
            'changes', CASE WHEN count(*) > 20 THEN '[]' ELSE
                jsonb_agg(jsonb_build_object('topic', $2, 'id', resource_id)) || '{"topic": "entitlements"}'
                || jsonb_agg(jsonb_build_object('topic', 'audit_log', 'id', id, 'at', created_at)) END)::text)
        FROM entry GROUP BY organization_id
    $sql$, CASE WHEN is_dedicated THEN TG_TABLE_SCHEMA ELSE 'audit' END, CASE WHEN is_dedicated THEN TG_TABLE_SCHEMA ELSE 'app' END)
        USING changed, TG_ARGV[0], CASE TG_OP WHEN 'DELETE' THEN '.deleted' ELSE '.updated' END,
              string_to_array(TG_ARGV[1], ', '), CASE WHEN is_dedicated THEN 'schema' ELSE 'shared' END;
    RETURN NULL;
END
$$;
