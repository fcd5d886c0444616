//! Schemas, the role enum, and the trigger that keeps `updated_at`.

crate::step!("m0001_foundation", SQL.to_owned());

const SQL: &str = "
-- A function is for whoever is granted it, not for everybody.
ALTER DEFAULT PRIVILEGES FOR ROLE tenantry_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

CREATE SCHEMA app;
CREATE SCHEMA auth;
CREATE SCHEMA billing;
CREATE SCHEMA audit;
GRANT USAGE ON SCHEMA app, auth, billing, audit TO tenantry_app;

CREATE TYPE auth.org_role AS ENUM ('owner', 'admin', 'member', 'viewer');

CREATE FUNCTION app.touch_updated_at() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
";
