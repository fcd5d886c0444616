-- Creates the partitions of the audit log up to three months ahead and returns their names. The
-- first one, audit_logs_history, takes all earlier entries. Rows of these months that fell into the
-- default partition are moved to them.
CREATE OR REPLACE FUNCTION audit.ensure_partitions() RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    lower_bound timestamptz;
    next_bound  timestamptz;
    month       text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit.ensure_partitions', 0));
    SELECT coalesce(max(p.upper_bound), '-infinity') INTO lower_bound FROM audit.partitions() p;
    WHILE lower_bound <= now() + interval '3 months' LOOP
        next_bound := coalesce(nullif(lower_bound, '-infinity') + interval '1 month', date_trunc('month', now()));
        month := 'audit_logs_' || coalesce(to_char(nullif(lower_bound, '-infinity'), 'YYYY_MM'), 'history');
        EXECUTE format('CREATE TABLE audit.%I (LIKE audit.audit_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)', month);
        EXECUTE format('WITH moved AS (DELETE FROM audit.audit_logs WHERE created_at >= %L AND created_at < %L RETURNING *)
                        INSERT INTO audit.%I SELECT * FROM moved', lower_bound, next_bound, month);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', month);
        -- Backups read each partition by itself.
        EXECUTE format('CREATE POLICY tenantry_owner_select ON audit.%I FOR SELECT TO tenantry_owner USING (true)', month);
        EXECUTE format('ALTER TABLE audit.audit_logs ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)',
                       month, lower_bound, next_bound);
        RETURN NEXT 'audit.' || month;
        lower_bound := next_bound;
    END LOOP;
END
$$;
