-- The session of a transaction (its organization, user and role) in one parameter that only
-- functions of the owner can set. GRANT SET ON PARAMETER gave that right to tenantry_owner alone,
-- so SQL that runs as tenantry_app or tenantry_system can read the value and cannot change it.
--
-- The parameter names C functions whose errors are logged with a backtrace. No C function has the
-- name tenantry_<organization>_<user>_<role>. The value ends with the transaction.
CREATE OR REPLACE FUNCTION app.current_organization() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(split_part(current_setting('backtrace_functions'), '_', 2), '')::uuid;

CREATE OR REPLACE FUNCTION auth.current_user_id() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(split_part(current_setting('backtrace_functions'), '_', 3), '')::uuid;

-- The three settings repeat the session for other programs; no policy and no function reads them.
CREATE OR REPLACE FUNCTION app.set_session(p_organization uuid, p_user uuid, p_role text) RETURNS text
LANGUAGE sql
RETURN concat(
    set_config('backtrace_functions',
               concat('tenantry_', replace(p_organization::text, '-', ''), '_', replace(p_user::text, '-', ''), '_', p_role),
               true),
    set_config('app.current_org_id', coalesce(p_organization::text, ''), true),
    set_config('app.current_user_id', coalesce(p_user::text, ''), true),
    set_config('app.current_role', coalesce(p_role, ''), true));

REVOKE EXECUTE ON FUNCTION app.current_organization, auth.current_user_id, app.set_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.current_organization, auth.current_user_id TO tenantry_app, tenantry_system;
