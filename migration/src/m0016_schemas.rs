//! Steps go through the schemas of organizations, and the self-check looks at where these are.

use crate::rls::{self, Verb};

crate::step!("m0016_schemas", sql());

const SQL: &str = r"
-- What is out of order about schemas of organizations; p_version is the newest step that changes them.
-- problem: MISSING (an organization lives in a schema that does not exist), BEHIND (it lacks steps; schema_name is then how many do),
-- UNUSED (nobody lives there, and it is not the copy that a move has left for a while).
CREATE FUNCTION app.schema_problems(p_version text) RETURNS TABLE (problem text, schema_name text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH placed AS (
        SELECT app.placement_schema(p.organization_id) AS name, p.home = 'schema' AS lives, p.version,
               p.home = 'schema' OR p.moving_to = 'schema'
                   OR (p.old_home = 'schema' AND p.keep_old_until > now() - interval '1 day') AS needed
        FROM app.placements p
    ),
    there AS (SELECT n.nspname AS name FROM pg_namespace n WHERE n.nspname ~ '^org_[0-9a-f]{32}$')
    SELECT 'MISSING', p.name FROM placed p WHERE p.lives AND NOT EXISTS (SELECT FROM there t WHERE t.name = p.name)
    UNION ALL
    SELECT 'BEHIND', count(*)::text FROM placed p WHERE p.lives AND coalesce(p.version, '') < p_version HAVING count(*) > 0
    UNION ALL
    SELECT 'UNUSED', t.name FROM there t WHERE NOT EXISTS (SELECT FROM placed p WHERE p.name = t.name AND p.needed)
$$;
REVOKE EXECUTE ON FUNCTION app.schema_problems FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.schema_problems TO tenantry_app;
";

fn sql() -> String {
    // Whoever brings a schema further writes down how far it is.
    let policies = ["insert", "update", "delete"]
        .map(|verb| format!("DROP POLICY IF EXISTS tenantry_owner_{verb} ON app.placements;\n"));
    policies.concat()
        + &rls::definer("app.placements", &[Verb::Insert, Verb::Update, Verb::Delete])
        + SQL
}
