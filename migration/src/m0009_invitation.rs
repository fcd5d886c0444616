//! Invitations are found by their token before the invited person is in the organization.

use crate::rls::{self, Verb};

crate::step!("m0009_invitation", sql());

const FUNCTIONS: &str = r"
-- The invitation with this hash of its token, whatever became of it; the caller decides whether it still holds.
CREATE FUNCTION auth.find_invitation(p_token_hash bytea)
RETURNS TABLE (organization_id uuid, id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = auth, pg_temp AS $$
    SELECT i.organization_id, i.id FROM auth.invitations i WHERE i.token_hash = p_token_hash
$$;

-- How many organizations the person who asks owns: a person may found only so many.
CREATE FUNCTION auth.viewer_ownerships() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = auth, pg_temp AS $$
    SELECT count(*) FROM auth.organization_members m
        WHERE m.user_id = (SELECT nullif(current_setting('app.current_user_id', true), '')::uuid)
          AND m.role = 'owner'
$$;

-- Retires the slugs of the current organization, which is about to end: nobody can take them for 90 days.
CREATE FUNCTION app.retire_slugs() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
    UPDATE app.organization_slugs SET retired_at = now()
        WHERE organization_id = nullif(current_setting('app.current_org_id', true), '')::uuid
          AND retired_at IS NULL
$$;

REVOKE EXECUTE ON FUNCTION auth.find_invitation, auth.viewer_ownerships, app.retire_slugs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth.find_invitation, auth.viewer_ownerships, app.retire_slugs TO tenantry_app;
";

fn sql() -> String {
    rls::definer("auth.invitations", &[Verb::Select]) + FUNCTIONS
}
