-- The organization with this id, or this slug, current or retired, whether or not it still exists.
CREATE OR REPLACE FUNCTION app.find_organization(p_name text) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
    SELECT s.organization_id FROM app.organization_slugs s
        WHERE s.slug = p_name OR s.organization_id::text = lower(p_name) LIMIT 1
$$;
