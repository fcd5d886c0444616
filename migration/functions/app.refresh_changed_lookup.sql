-- Refreshes app.organization_lookup after a change of a source. No change passes a row of a source
-- to another organization. Tables of dedicated schemas have this trigger as well and are no
-- sources.
CREATE OR REPLACE FUNCTION app.refresh_changed_lookup() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_TABLE_SCHEMA ~ '^org_' THEN
        RETURN NULL;
    END IF;
    IF TG_TABLE_NAME = 'database' THEN
        PERFORM app.refresh_stale_lookups();
    ELSIF TG_TABLE_NAME = 'organizations' THEN
        PERFORM app.refresh_lookup(NEW.id);
    ELSE
        PERFORM app.refresh_lookup(coalesce(NEW.organization_id, OLD.organization_id));
    END IF;
    RETURN NULL;
END
$$;
