-- Records which row of an organization has changed while the organization is moved. A transaction
-- may continue in another organization, so the trigger looks at the row's own. A row of a partition
-- counts as one of the partitioned table. Arguments: the columns of the primary key.
CREATE OR REPLACE FUNCTION app.record_change() RETURNS trigger
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
