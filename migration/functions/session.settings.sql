-- The session of a transaction (its organization, user and role) in plain settings. Used where the
-- provider of the database does not allow GRANT SET ON PARAMETER to the owner. SQL that runs as
-- tenantry_app can change these settings; it cannot forge the variant in session.parameter.sql.
CREATE OR REPLACE FUNCTION app.current_organization() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('app.current_org_id', true), '')::uuid;

CREATE OR REPLACE FUNCTION auth.current_user_id() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('app.current_user_id', true), '')::uuid;

CREATE OR REPLACE FUNCTION app.set_session(p_organization uuid, p_user uuid, p_role text) RETURNS text
LANGUAGE sql
RETURN concat(
    set_config('app.current_org_id', coalesce(p_organization::text, ''), true),
    set_config('app.current_user_id', coalesce(p_user::text, ''), true),
    set_config('app.current_role', coalesce(p_role, ''), true));

REVOKE EXECUTE ON FUNCTION app.current_organization, auth.current_user_id, app.set_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.current_organization, auth.current_user_id TO tenantry_app, tenantry_system;
