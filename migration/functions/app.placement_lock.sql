-- The key of an organization's placement lock. A transaction that writes in the organization holds
-- it in shared mode until it ends; the command that moves the organization takes it exclusively.
CREATE OR REPLACE FUNCTION app.placement_lock(p_organization uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT hashtextextended('placement ' || p_organization::text, 0)
$$;
