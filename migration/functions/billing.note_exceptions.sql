-- Notes in the organization's billing whether it has exceptions. The new time of that row makes
-- servers read its limits again. The tables are the shared ones or those of a dedicated schema.
CREATE OR REPLACE FUNCTION billing.note_exceptions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'UPDATE %1$I.organization_billing SET has_exceptions = EXISTS (
             SELECT FROM %1$I.organization_features f WHERE f.organization_id = $1) WHERE organization_id = $1', TG_TABLE_SCHEMA)
        USING coalesce(NEW.organization_id, OLD.organization_id);
    RETURN NULL;
END
$$;
