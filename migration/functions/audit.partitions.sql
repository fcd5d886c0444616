-- The partitions of the audit log. upper_bound is NULL for the default partition.
CREATE OR REPLACE FUNCTION audit.partitions() RETURNS TABLE (name text, upper_bound timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('%I.%I', n.nspname, c.relname),
           substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$TO \('([^']+)'\)$re$)::timestamptz
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE i.inhparent = 'audit.audit_logs'::regclass AND c.relkind = 'r'
$$;
