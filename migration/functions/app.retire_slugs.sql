-- Retires every slug of the current organization, which is about to be deleted: others cannot take any
-- of them for 90 days.
DROP FUNCTION IF EXISTS app.retire_slugs;
CREATE FUNCTION app.retire_slugs() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
    UPDATE app.organization_slugs SET retired_at = now() WHERE organization_id = app.current_organization()
$$;
REVOKE EXECUTE ON FUNCTION app.retire_slugs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.retire_slugs TO tenantry_app;
