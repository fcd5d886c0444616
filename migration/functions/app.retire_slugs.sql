-- Retires every slug of the current organization, which is about to be deleted. Other organizations
-- cannot claim them for 90 days.
CREATE OR REPLACE FUNCTION app.retire_slugs() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
    UPDATE app.organization_slugs SET retired_at = now() WHERE organization_id = app.current_organization()
$$;
