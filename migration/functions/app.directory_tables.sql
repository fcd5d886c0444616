-- The tables of which the control database keeps a copy for organizations in dedicated databases,
-- with their primary keys. Referenced tables come first.
CREATE OR REPLACE FUNCTION app.directory_tables() RETURNS TABLE (place bigint, name text, base_name text, key text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ordinality, v.name, split_part(v.name, '.', 2), v.key FROM unnest(
        ARRAY['app.organizations', 'auth.organization_members', 'auth.invitations', 'billing.organization_billing', 'app.outbox'],
        ARRAY['id', 'organization_id, id', 'organization_id, id', 'organization_id', 'organization_id, id'])
        WITH ORDINALITY v (name, key, ordinality)
$$;
