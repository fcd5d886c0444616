-- Writes the row of an organization again, unchanged, when its billing or its placement changes. So
-- the transaction that wrote the row says whether any of the three has changed: see
-- auth.reopen_request. Writers take the billing or the placement first, then the organization.
-- Sessions in a dedicated schema are never reopened, so changes of the billing there do not count.
CREATE OR REPLACE FUNCTION app.rewrite_organization() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before text := coalesce(current_setting('app.replicating', true), '');
BEGIN
    IF TG_TABLE_SCHEMA ~ '^org_' THEN
        RETURN NULL;
    END IF;
    -- The row keeps its time, and no other database has to copy it.
    PERFORM set_config('app.replicating', 'on', true);
    UPDATE app.organizations SET name = name WHERE id = coalesce(NEW.organization_id, OLD.organization_id);
    PERFORM set_config('app.replicating', before, true);
    RETURN NULL;
END
$$;
