-- The name of an organization's dedicated schema.
CREATE OR REPLACE FUNCTION app.placement_schema(p_organization uuid) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'org_' || replace(p_organization::text, '-', '')
$$;
