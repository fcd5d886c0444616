-- The self-check, run as the app role: checks what separates tenants, for the app role and the role
-- of background work. Returns one row per finding: severity ('fault' or 'warning'), subject,
-- problem, remedy. Runs with the settings that self_check.rs pins.
WITH RECURSIVE
me AS (
    SELECT oid, rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles
    WHERE rolname IN (current_user, 'tenantry_system')
),
-- The roles among them to which policies apply.
bound AS (SELECT * FROM me WHERE rolname = current_user OR NOT rolsuper),
-- The roles through which they have rights, each with the role that they are a member of.
gained (member, direct, role) AS (
    SELECT me.oid, m.roleid, m.roleid FROM pg_auth_members m JOIN me ON me.oid = m.member
    UNION
    SELECT g.member, g.direct, m.roleid FROM gained g JOIN pg_auth_members m ON m.member = g.role
),
-- The settings that connections of the role begin with, and the statement that takes back the
-- setting of the database or of the role in it. NULL if it is made elsewhere.
setting AS (
    SELECT s.name, s.value, (
        SELECT CASE WHEN d.setrole = 0 THEN format('ALTER DATABASE %I RESET %s', current_database(), s.name)
                    ELSE format('ALTER ROLE %I IN DATABASE %I RESET %s', current_user, current_database(), s.name) END
        FROM pg_db_role_setting d JOIN pg_database b ON b.oid = d.setdatabase AND b.datname = current_database()
        LEFT JOIN pg_roles r ON r.oid = d.setrole
        WHERE (d.setrole = 0 OR r.rolname = current_user)
          AND EXISTS (SELECT FROM unnest(d.setconfig) c WHERE lower(split_part(c, '=', 1)) = lower(s.name))
        ORDER BY d.setrole DESC LIMIT 1) AS reset
    FROM unnest($8::text[], $9::text[]) s (name, value)
),
-- The shared schemas, and the dedicated schemas with their organization.
ours AS (
    SELECT n.oid, n.nspname, n.nspowner, n.nspacl, o.id AS organization_id,
           -- The id's bytes as an expression tree with this constant shows them.
           (SELECT format('[ %s ]', string_agg((CASE WHEN b.value > 127 THEN b.value - 256 ELSE b.value END)::text, ' ' ORDER BY b.place))
            FROM (SELECT place, get_byte(uuid_send(o.id), place) FROM generate_series(0, 15) place) b (place, value)) AS bytes
    FROM pg_namespace n CROSS JOIN LATERAL (SELECT CASE WHEN n.nspname <> ALL ($1) THEN substr(n.nspname, 5)::uuid END) o (id)
    WHERE n.nspname = ANY ($1) OR n.nspname ~ '^org_[0-9a-f]{32}$'
),
relation AS (
    SELECT c.oid, c.relname, c.relkind, c.relowner, c.relacl, c.reloptions, c.relrowsecurity, c.relforcerowsecurity,
           n.nspname, n.organization_id, n.bytes, format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN ours n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
),
base AS (SELECT * FROM relation WHERE relkind IN ('r', 'p')),
-- Tables with rows of organizations, and the column with the organization's id.
tenant AS (
    SELECT b.*, a.attname AS owner_column, a.attnum
    FROM base b JOIN pg_attribute a ON a.attrelid = b.oid AND NOT a.attisdropped
    WHERE (a.attname = 'organization_id' AND b.name <> 'app.organization_slugs')
       OR (a.attname = 'id' AND b.relname = 'organizations')
),
-- The statements that make copies equal to their sources.
repair (lookups, identities) AS (VALUES (
    'SELECT app.refresh_stale_lookups()',
    -- The setting keeps the time of the identity, which is that of its newest token.
    'SET app.replicating = ''on''; UPDATE auth.identities i SET suspended_at = u.suspended_at FROM auth.users u '
    'WHERE u.id = i.user_id AND i.suspended_at IS DISTINCT FROM u.suspended_at; RESET app.replicating'
)),
command (privilege, letter) AS (VALUES ('SELECT', 'r'), ('INSERT', 'a'), ('UPDATE', 'w'), ('DELETE', 'd')),
-- The commands that a role may use on a table or on some of its columns.
usable AS (
    SELECT b.*, k.privilege, r.rolname FROM base b CROSS JOIN command k CROSS JOIN bound r
    WHERE has_table_privilege(r.oid, b.oid, k.privilege)
       OR (k.privilege <> 'DELETE' AND has_any_column_privilege(r.oid, b.oid, k.privilege))
),
-- The only conditions that policies may have; any other lets too many rows through, or none.
-- Compared without white space and without the schema name that the search_path makes redundant.
expected AS (
    SELECT t.oid, t.attnum, format('(%s=(SELECTcurrent_organization()AScurrent_organization))', t.owner_column) AS condition,
           format('%s = (SELECT app.current_organization())', t.owner_column) AS source
    FROM tenant t
    UNION ALL
    SELECT oid, 0, '((id=(SELECTcurrent_user_id()AScurrent_user_id))OR(EXISTS(SELECTFROMorganization_membersmWHERE'
             || '((m.organization_id=(SELECTcurrent_organization()AScurrent_organization))AND(m.user_id=users.id)))))',
           'id = (SELECT auth.current_user_id()) OR EXISTS (SELECT FROM auth.organization_members m '
             || 'WHERE m.organization_id = (SELECT app.current_organization()) AND m.user_id = users.id)'
    FROM base WHERE name = 'auth.users'
),
-- The policies that tenantry creates: their names, and what they consist of.
own AS NOT MATERIALIZED (
    SELECT b.oid, b.name, k.privilege, k.letter, r.oid AS role, r.rolname, lower(format('%s_%s', r.rolname, k.privilege)) AS polname,
           concat_ws(' ', CASE WHEN k.privilege <> 'INSERT' THEN format('USING (%s)', e.source) END,
                          CASE WHEN k.privilege IN ('INSERT', 'UPDATE') THEN format('WITH CHECK (%s)', e.source) END) AS clauses
    FROM expected e JOIN base b ON b.oid = e.oid CROSS JOIN command k CROSS JOIN bound r
),
-- The conditions of permissive policies for one of the roles.
permission AS (
    SELECT p.oid, e.is_check, e.tree::text AS tree, coalesce(x.attnum, -1) AS attnum
    FROM pg_policy p JOIN base b ON b.oid = p.polrelid LEFT JOIN expected x ON x.oid = p.polrelid
    CROSS JOIN LATERAL (VALUES (false, p.polqual), (true, p.polwithcheck)) e (is_check, tree)
    WHERE p.polpermissive AND e.tree IS NOT NULL
      AND EXISTS (SELECT FROM unnest(p.polroles) r (oid) CROSS JOIN bound WHERE r.oid = 0 OR pg_has_role(bound.oid, r.oid, 'USAGE'))
),
-- Equal trees with the owner column at the same position are equal conditions. So only one of each
-- kind is deparsed, however many dedicated schemas there are.
example AS (
    SELECT attnum, is_check, min(oid) AS oid, array_agg(oid) AS alike FROM permission GROUP BY tree, attnum, is_check
),
judged AS MATERIALIZED (
    SELECT e.alike, coalesce(x.condition = regexp_replace(
               pg_get_expr(CASE WHEN e.is_check THEN p.polwithcheck ELSE p.polqual END, p.polrelid), '\s|auth\.', '', 'g'), false) AS holds
    FROM example e JOIN pg_policy p ON p.oid = e.oid LEFT JOIN expected x ON x.oid = p.polrelid
),
-- The policies per command, and whether they restrict rows to the organization.
policy AS (
    SELECT p.polrelid, p.polname, p.polroles, p.polcmd, k.privilege, j.holds
    FROM judged j CROSS JOIN unnest(j.alike) a (oid) JOIN pg_policy p ON p.oid = a.oid
    JOIN command k ON p.polcmd = '*' OR p.polcmd::text = k.letter
),
-- The tables of dedicated schemas that are restricted to their organization, judged in the same
-- way: their trees differ only in the bytes of the id.
held AS MATERIALIZED (
    SELECT e.alike
    FROM (SELECT min(c.oid) AS oid, array_agg(t.oid) AS alike
          FROM tenant t JOIN pg_constraint c ON c.conrelid = t.oid
          -- The cast makes the planner look constraints up by table, not by this name, which all of
          -- them share.
          WHERE t.organization_id IS NOT NULL AND c.conname::text = 'single_organization' AND c.contype = 'c' AND c.convalidated
          GROUP BY replace(c.conbin::text, t.bytes, '[ own ]'), t.attnum) e
    JOIN pg_constraint c ON c.oid = e.oid JOIN tenant t ON t.oid = c.conrelid
    WHERE pg_get_expr(c.conbin, c.conrelid) = format('(%I = %L::uuid)', t.owner_column, t.organization_id)
),
routine AS (
    SELECT p.oid, p.proname, p.provolatile,
           format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS name, p.proowner, p.prosecdef, p.proconfig,
           EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                   WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE') AS public_executable,
           -- Trigger functions need no permission and cannot be called.
           c.is_trigger OR has_function_privilege(p.oid, 'EXECUTE') AS executable,
           NOT c.is_trigger AND has_function_privilege('tenantry_system', p.oid, 'EXECUTE') AS for_system, n.organization_id
    FROM pg_proc p JOIN ours n ON n.oid = p.pronamespace
    CROSS JOIN LATERAL (SELECT p.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype)) c (is_trigger)
),
-- The functions through which policies read the session, and their only permitted bodies: they read
-- a parameter ($7) that only the owner can set, or a plain setting.
reader AS (
    SELECT r.*, coalesce(pg_get_function_sqlbody(r.oid), '') AS body, c.guarded, c.plain
    FROM routine r CROSS JOIN LATERAL (
        SELECT format('RETURN (NULLIF(split_part(current_setting(%L::text), ''_''::text, %s), ''''::text))::uuid', $7, x.place) AS guarded,
               format('RETURN (NULLIF(current_setting(%L::text, true), ''''::text))::uuid', x.setting) AS plain
        FROM (VALUES ('current_organization', 2, 'app.current_org_id'), ('current_user_id', 3, 'app.current_user_id')) x (name, place, setting)
        WHERE x.name = r.proname) c
),
-- Other schemas that the app role can use. None of their objects should lead to tenants.
elsewhere AS (
    SELECT n.oid, n.nspname FROM pg_namespace n
    WHERE NOT EXISTS (SELECT FROM ours o WHERE o.oid = n.oid) AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
      AND has_schema_privilege(n.oid, 'USAGE')
),
finding (severity, subject, problem, remedy) AS (
    SELECT 'fault', 'role ' || me.rolname, power.problem,
           CASE WHEN me.rolname IN ('tenantry_app', 'tenantry_system') THEN format('ALTER ROLE %I %s', me.rolname, power.remedy)
                ELSE 'log in as tenantry_app' END
    FROM me CROSS JOIN LATERAL (VALUES
        (rolsuper, 'is a superuser, so row-level security does not apply to it', 'NOSUPERUSER'),
        (rolbypassrls, 'has BYPASSRLS', 'NOBYPASSRLS'),
        (rolcreaterole, 'has CREATEROLE, so it can make itself a member of the owner', 'NOCREATEROLE'),
        (rolcreatedb, 'has CREATEDB, so it can own databases', 'NOCREATEDB'),
        (rolreplication, 'has REPLICATION, so it can read all data', 'NOREPLICATION')
    ) power (has, problem, remedy)
    WHERE power.has
    UNION ALL
    -- A role without any rights may be a label, with which providers mark logins of their identity
    -- service. Others have powers that the catalogue does not show, such as rds_replication.
    SELECT CASE WHEN bool_or(x.has_rights) THEN 'fault' ELSE 'warning' END, 'role ' || me.rolname,
           'is a member of ' || d.rolname
             || CASE WHEN bool_or(x.has_rights) THEN '' ELSE ', which has no rights here, but may have some that the provider defines' END,
           format('REVOKE %I FROM %I', d.rolname, me.rolname)
    FROM gained g JOIN me ON me.oid = g.member JOIN pg_roles d ON d.oid = g.direct JOIN pg_roles r ON r.oid = g.role
    CROSS JOIN LATERAL (SELECT
        r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication
        OR r.rolname LIKE 'pg\_%' OR r.rolname LIKE 'tenantry\_%'
        -- What it owns or may use, in this database or in the whole server.
        OR EXISTS (SELECT FROM pg_shdepend s
                   WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid
                     AND s.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())))) x (has_rights)
    WHERE x.has_rights
       OR r.rolname NOT IN ('rds_iam', 'rds_ad', 'azure_ad_user', 'cloudsqliamuser', 'cloudsqliamserviceaccount',
                            'cloudsqliamgroup', 'cloudsqliamgroupuser', 'cloudsqliamgroupserviceaccount')
    GROUP BY me.rolname, d.rolname
    UNION ALL
    SELECT 'fault', 'role ' || me.rolname, 'owns ' || owned.name, format('ALTER %s OWNER TO tenantry_owner', owned.name)
    FROM me JOIN (
        SELECT relowner AS owner, CASE relkind WHEN 'v' THEN 'VIEW ' WHEN 'm' THEN 'MATERIALIZED VIEW ' ELSE 'TABLE ' END
                                  || name AS name FROM relation
        UNION ALL SELECT nspowner, 'SCHEMA ' || nspname FROM ours
        UNION ALL SELECT proowner, 'FUNCTION ' || name FROM routine
        UNION ALL SELECT datdba, format('DATABASE %I', datname) FROM pg_database WHERE datname = current_database()
    ) owned ON owned.owner = me.oid
    UNION ALL
    SELECT 'fault', 'table ' || name, 'has no row-level security', format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name)
    FROM base WHERE NOT relrowsecurity AND name <> ALL ($2)
    UNION ALL
    SELECT 'fault', 'table ' || name, 'does not force row-level security on its owner',
           format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', name)
    FROM base WHERE relrowsecurity AND NOT relforcerowsecurity AND name <> ALL ($2)
    UNION ALL
    SELECT 'fault', 'table ' || o.name,
           'has no policy for ' || o.privilege || ', which ' || CASE WHEN o.rolname = current_user THEN 'the role' ELSE o.rolname END || ' may use',
           format('CREATE POLICY %I ON %s FOR %s TO %I %s', o.polname, o.name, o.privilege, o.rolname, o.clauses)
    FROM own o JOIN usable u ON (u.oid, u.privilege, u.rolname) = (o.oid, o.privilege, o.rolname)
    WHERE u.relrowsecurity
      -- A right of PUBLIC is a separate finding.
      AND (o.rolname = current_user OR NOT EXISTS (SELECT FROM aclexplode(u.relacl) a WHERE a.grantee = 0 AND a.privilege_type = o.privilege))
      AND NOT EXISTS (
        SELECT FROM policy p WHERE p.polrelid = o.oid AND p.privilege = o.privilege
          AND EXISTS (SELECT FROM unnest(p.polroles) r (oid) WHERE r.oid = 0 OR pg_has_role(o.role, r.oid, 'USAGE')))
    UNION ALL
    -- The owner's functions and commands use every row of these tables, and FORCE binds them too.
    SELECT 'fault', 'table ' || b.name, 'has no policy for ' || k.privilege || ', which tenantry_owner needs',
           format('CREATE POLICY tenantry_owner_%s ON %s FOR %s TO tenantry_owner %s', lower(k.privilege), b.name, k.privilege,
                  concat_ws(' ', CASE WHEN k.privilege <> 'INSERT' THEN 'USING (true)' END,
                                 CASE WHEN k.privilege IN ('INSERT', 'UPDATE') THEN 'WITH CHECK (true)' END))
    FROM base b JOIN expected e ON e.oid = b.oid CROSS JOIN command k
    WHERE b.relrowsecurity AND b.oid IN (SELECT oid FROM usable WHERE rolname = current_user) AND NOT EXISTS (
        SELECT FROM pg_policy p WHERE p.polrelid = b.oid AND p.polpermissive AND p.polcmd::text IN ('*', k.letter)
          AND p.polroles && ARRAY[0, 'tenantry_owner'::regrole]::oid[])
    UNION ALL
    -- tenantry's own policies are restored, others are dropped.
    SELECT DISTINCT 'fault', 'table ' || b.name, format('has the policy %I, which does not restrict rows to the organization', p.polname),
           CASE WHEN o.polname IS NULL THEN format('DROP POLICY %I ON %s', p.polname, b.name)
                WHEN p.polcmd::text = o.letter THEN format('ALTER POLICY %I ON %s TO %I %s', p.polname, b.name, o.rolname, o.clauses)
                ELSE format('BEGIN; DROP POLICY %I ON %s; CREATE POLICY %I ON %s FOR %s TO %I %s; COMMIT',
                            p.polname, b.name, p.polname, b.name, o.privilege, o.rolname, o.clauses) END
    FROM base b JOIN policy p ON p.polrelid = b.oid
    LEFT JOIN own o ON o.oid = b.oid AND o.polname = p.polname
    WHERE NOT p.holds
    UNION ALL
    SELECT 'fault', 'table ' || t.name, 'is not restricted to the organization of its schema',
           format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS single_organization, ADD CONSTRAINT single_organization CHECK (%I = %L)',
                  t.name, t.owner_column, t.organization_id)
    FROM tenant t
    WHERE t.organization_id IS NOT NULL AND t.oid NOT IN (SELECT unnest(alike) FROM held)
    UNION ALL
    SELECT 'fault', 'table ' || u.name, 'has no organization_id, but allows the role ' || u.privilege,
           format('REVOKE %s ON %s FROM %I', u.privilege, u.name, u.rolname)
    FROM usable u
    WHERE u.oid NOT IN (SELECT oid FROM tenant)
      AND NOT (u.privilege = 'SELECT' AND (u.name = ANY ($2) OR u.name = 'auth.users'))
    UNION ALL
    SELECT 'fault', 'table migration.' || c.relname, 'allows the role ' || k.privilege,
           format('REVOKE %s ON migration.%I FROM %I', k.privilege, c.relname, current_user)
    FROM command k JOIN pg_class c ON c.relnamespace = to_regnamespace('migration') AND c.relkind = 'r'
    WHERE k.privilege <> 'SELECT' AND has_table_privilege(c.oid, k.privilege)
    UNION ALL
    -- All others, including those of later versions of PostgreSQL.
    SELECT DISTINCT 'fault', 'table ' || b.name, 'grants ' || a.privilege_type || ' to the role',
           format('REVOKE %s ON %s FROM %I', a.privilege_type, b.name, r.rolname)
    FROM base b CROSS JOIN aclexplode(b.relacl) a JOIN bound r ON r.oid = a.grantee
    WHERE a.privilege_type NOT IN (SELECT privilege FROM command)
    UNION ALL
    SELECT 'fault', 'table ' || b.name, 'allows the role ' || x.privilege || ' on audit rows',
           format('REVOKE %s ON %s FROM %I', x.privilege, b.name, r.rolname)
    FROM base b CROSS JOIN (VALUES ('UPDATE'), ('DELETE')) x (privilege) CROSS JOIN bound r
    WHERE (b.nspname = 'audit' OR b.relname = 'audit_logs') AND has_table_privilege(r.oid, b.oid, x.privilege)
    UNION ALL
    SELECT 'fault', 'table ' || b.name, format('allows %I to write %s of audit rows', r.rolname, a.attname),
           format('REVOKE INSERT ON %s FROM %I; run tenantry migrate', b.name, r.rolname)
    FROM base b CROSS JOIN bound r JOIN pg_attribute a ON a.attrelid = b.oid AND a.attname IN ('id', 'actor_id', 'actor_name', 'created_at')
    WHERE (b.nspname = 'audit' OR b.relname = 'audit_logs') AND has_column_privilege(r.oid, b.oid, a.attnum, 'INSERT')
      AND NOT (r.rolname = 'tenantry_system' AND a.attname = 'actor_name')
    UNION ALL
    SELECT 'fault', 'role ' || r.rolname, 'may set the parameter ' || g.parname, format('REVOKE %s ON PARAMETER %s FROM %I', x.privilege, g.parname, r.rolname)
    FROM pg_parameter_acl g CROSS JOIN bound r CROSS JOIN (VALUES ('SET'), ('ALTER SYSTEM')) x (privilege)
    WHERE NOT r.rolsuper AND has_parameter_privilege(r.oid, g.parname, x.privilege)
    UNION ALL
    SELECT 'fault', 'function ' || name, 'has an unexpected definition: it must read only the session of the transaction', 'run tenantry migrate'
    FROM reader
    WHERE body NOT IN (guarded, plain) OR prosecdef OR proconfig IS NOT NULL OR provolatile <> 's'
       OR proowner <> (SELECT oid FROM pg_roles WHERE rolname = 'tenantry_owner')
    UNION ALL
    SELECT 'fault', 'function ' || name, format('reads the parameter %s, which tenantry_owner may not set', $7),
           format('GRANT SET ON PARAMETER %s TO tenantry_owner; or run tenantry migrate', $7)
    FROM reader WHERE body = guarded AND NOT has_parameter_privilege('tenantry_owner', $7, 'SET')
    UNION ALL
    SELECT 'warning', 'function ' || name, 'reads a setting that SQL of the role can change',
           format('GRANT SET ON PARAMETER %s TO tenantry_owner, as a superuser, and run tenantry migrate', $7)
    FROM reader WHERE body = plain
    UNION ALL
    SELECT 'fault', 'function ' || name, 'is for background work, but the role may execute it',
           format('REVOKE EXECUTE ON FUNCTION %s FROM %I', name, current_user)
    FROM routine WHERE prosecdef AND for_system AND executable
    UNION ALL
    SELECT DISTINCT 'fault', 'relation ' || r.name, 'grants ' || a.privilege_type || ' to PUBLIC',
           format('REVOKE ALL ON %s FROM PUBLIC', r.name)
    FROM relation r CROSS JOIN aclexplode(r.relacl) a WHERE a.grantee = 0
    UNION ALL
    SELECT 'fault', 'schema ' || nspname, 'allows the role to create objects in it',
           format('REVOKE CREATE ON SCHEMA %I FROM %I', nspname, current_user)
    FROM ours WHERE has_schema_privilege(oid, 'CREATE') OR has_schema_privilege('tenantry_system', oid, 'CREATE')
    UNION ALL
    SELECT 'fault', 'function ' || name, 'is SECURITY DEFINER without a pinned search_path that ends in pg_temp',
           format('ALTER FUNCTION %s SET search_path = …, pg_temp', name)
    FROM routine
    WHERE prosecdef AND NOT EXISTS (SELECT FROM unnest(proconfig) s (setting) WHERE setting ~ '^search_path=(.*, ?)?pg_temp$')
    UNION ALL
    SELECT 'fault', 'function ' || name, 'is SECURITY DEFINER in a dedicated schema, where only tables belong',
           format('DROP FUNCTION %s', name)
    FROM routine WHERE prosecdef AND organization_id IS NOT NULL
    UNION ALL
    SELECT 'fault', 'function ' || name, 'cannot be executed by the role, which needs it',
           format('GRANT EXECUTE ON FUNCTION %s TO %I', name, current_user)
    FROM routine WHERE prosecdef AND NOT executable AND NOT for_system
    UNION ALL
    SELECT 'fault', 'function ' || name, 'is SECURITY DEFINER and executable by PUBLIC',
           format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', name)
    FROM routine WHERE prosecdef AND public_executable
    UNION ALL
    SELECT 'fault', 'view ' || name, 'runs with its owner''s rights: it has no security_invoker',
           format('ALTER VIEW %s SET (security_invoker = true)', name)
    FROM relation
    WHERE relkind = 'v' AND NOT EXISTS (
        SELECT FROM pg_options_to_table(reloptions) o WHERE o.option_name = 'security_invoker' AND o.option_value::boolean)
    UNION ALL
    SELECT 'fault', format('view %I.%I', e.nspname, v.relname), 'reads tenant tables with its owner''s rights',
           format('ALTER VIEW %I.%I SET (security_invoker = true)', e.nspname, v.relname)
    FROM elsewhere e JOIN pg_class v ON v.relnamespace = e.oid AND v.relkind IN ('v', 'm')
    WHERE has_table_privilege(v.oid, 'SELECT')
      AND NOT EXISTS (SELECT FROM pg_options_to_table(v.reloptions) o
                      WHERE o.option_name = 'security_invoker' AND o.option_value::boolean)
      AND EXISTS (SELECT FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                  JOIN base b ON b.oid = d.refobjid WHERE w.ev_class = v.oid)
    UNION ALL
    -- Functions of an extension that a superuser has installed are known code. The owner of any
    -- other can add functions to it.
    SELECT CASE WHEN r.rolname <> 'tenantry_owner' AND EXISTS (
                     SELECT FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid JOIN pg_roles o ON o.oid = x.extowner
                     WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' AND o.rolsuper)
                THEN 'warning' ELSE 'fault' END,
           format('function %I.%I(%s)', e.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
           'is SECURITY DEFINER with the rights of ' || r.rolname || ', and the role may execute it',
           format('REVOKE EXECUTE ON FUNCTION %I.%I(%s) FROM PUBLIC, %I', e.nspname, p.proname,
                  pg_get_function_identity_arguments(p.oid), current_user)
    FROM elsewhere e JOIN pg_proc p ON p.pronamespace = e.oid JOIN pg_roles r ON r.oid = p.proowner
    WHERE p.prosecdef AND has_function_privilege(p.oid, 'EXECUTE')
      AND (r.rolsuper OR r.rolbypassrls OR r.rolname = 'tenantry_owner')
      -- SQL cannot call trigger functions, and those with another pseudo-type of this kind are
      -- written in C by a superuser.
      AND NOT EXISTS (SELECT FROM pg_type t
                      WHERE t.oid = ANY (array_append(p.proargtypes::oid[], p.prorettype))
                        AND t.typname IN ('trigger', 'event_trigger', 'internal', 'language_handler', 'fdw_handler',
                                          'index_am_handler', 'table_am_handler', 'tsm_handler')
                        AND t.typnamespace = 'pg_catalog'::regnamespace)
    UNION ALL
    SELECT 'fault', 'relation ' || name, 'is a materialized view or a foreign table, which policies do not cover',
           format('REVOKE ALL ON %s FROM %I', name, current_user)
    FROM relation WHERE relkind IN ('m', 'f') AND has_table_privilege(oid, 'SELECT')
    UNION ALL
    SELECT 'fault', 'role ' || current_user, 'has the search_path ' || s.value,
           coalesce(CASE WHEN s.reset LIKE 'ALTER ROLE%' THEN s.reset END, format('ALTER ROLE %I SET search_path TO %s', current_user, $3))
    FROM setting s WHERE s.name = 'search_path' AND s.value <> $3
    UNION ALL
    SELECT 'fault', format('database %I', current_database()), 'starts every connection with the setting ' || s.name,
           coalesce(s.reset, format('ALTER ROLE %I RESET %s', current_user, s.name))
    FROM setting s
    WHERE s.name IN ('app.current_org_id', 'app.current_user_id', 'app.current_role', 'app.replicating', 'app.moving', $7) AND s.value <> ''
    UNION ALL
    SELECT x.severity, 'role ' || current_user, format('has %s = %s, so %s', s.name, s.value, x.effect),
           coalesce(s.reset, format('ALTER ROLE %I SET %s TO %s', current_user, s.name, x.value))
    FROM (VALUES ('fault', 'row_security', 'on', 'its queries fail'),
                 ('fault', 'session_replication_role', 'origin', 'foreign keys and triggers are off'),
                 ('warning', 'default_transaction_read_only', 'off', 'changes are refused')) x (severity, name, value, effect)
    JOIN setting s USING (name) WHERE s.value <> x.value
    UNION ALL
    -- Triggers keep the copies from which a request is opened, and enforce foreign keys.
    SELECT 'fault', 'table ' || b.name, format('has the trigger %I disabled', t.tgname),
           format('ALTER TABLE %s ENABLE TRIGGER %I', b.name, t.tgname)
             || CASE t.tgname WHEN 'copy_suspension' THEN '; ' || repair.identities
                              WHEN 'refresh_lookup' THEN '; ' || repair.lookups
                              WHEN 'note_exceptions' THEN format('; UPDATE %I.organization_features SET feature = feature', b.nspname)
                              ELSE '' END
    FROM pg_trigger t JOIN base b ON b.oid = t.tgrelid CROSS JOIN repair
    WHERE t.tgenabled IN ('D', 'R')
    UNION ALL
    -- type is pg_trigger.tgtype: 1 for each row, 2 before, 4 insert, 8 delete, 16 update.
    SELECT 'fault', 'table ' || x.name, format('lacks the trigger %I of its migration', x.trigger), 'create it as its migration does'
    FROM (VALUES ('auth.users', 'copy_suspension', 17, 'auth.copy_suspension'),
                 ('auth.identities', 'copy_suspension', 23, 'auth.copy_suspension'),
                 ('app.organizations', 'refresh_lookup', 21, 'app.refresh_changed_lookup'),
                 ('app.placements', 'refresh_lookup', 29, 'app.refresh_changed_lookup'),
                 ('app.database', 'refresh_lookup', 12, 'app.refresh_changed_lookup'),
                 ('billing.organization_billing', 'refresh_lookup', 29, 'app.refresh_changed_lookup'),
                 ('billing.organization_features', 'note_exceptions', 29, 'billing.note_exceptions')) x (name, trigger, type, function)
    WHERE NOT EXISTS (SELECT FROM pg_trigger t
                      WHERE t.tgrelid = to_regclass(x.name) AND t.tgname = x.trigger AND t.tgtype = x.type
                        AND t.tgfoid = to_regproc(x.function))
    UNION ALL
    SELECT CASE WHEN c.is_unsafe THEN 'fault' ELSE 'warning' END, 'table ' || c.name,
           'differs from the rows that it copies, and requests are opened from it',
           CASE c.name WHEN 'auth.identities' THEN repair.identities ELSE repair.lookups END
    FROM app.stale_copies($10) c CROSS JOIN repair
    UNION ALL
    SELECT 'warning', 'role ' || current_user, format('has %s = %s', s.name, s.value),
           coalesce(CASE WHEN s.reset LIKE 'ALTER ROLE%' THEN s.reset END, format('ALTER ROLE %I SET %s TO %L', current_user, s.name, w.value))
    FROM unnest($4::text[], $5::text[]) w (name, value) JOIN setting s USING (name)
    WHERE s.name <> 'search_path' AND s.value <> w.value
    UNION ALL
    SELECT 'warning', 'table ' || t.name, 'has no index that leads with ' || t.owner_column,
           format('CREATE INDEX ON %s (%I, …)', t.name, t.owner_column)
    FROM tenant t
    WHERE NOT EXISTS (
        SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = t.oid AND a.attname = t.owner_column)
    UNION ALL
    SELECT 'warning', 'table ' || b.name, format('has no index for its foreign key %I', f.conname),
           format('CREATE INDEX ON %s (%s)', b.name,
                  (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.ordinality)
                   FROM unnest(f.conkey) WITH ORDINALITY k (attnum, ordinality)
                   JOIN pg_attribute a ON a.attrelid = b.oid AND a.attnum = k.attnum))
    FROM pg_constraint f JOIN base b ON b.oid = f.conrelid
    WHERE f.contype = 'f'
      AND NOT EXISTS (SELECT FROM pg_index i
                      WHERE i.indrelid = b.oid AND i.indpred IS NULL
                        AND (i.indkey::int2[])[0:cardinality(f.conkey) - 1] @> f.conkey)
    UNION ALL
    SELECT 'warning', format('database %I', current_database()), 'allows the role to create ' || x.objects,
           format('REVOKE %s ON DATABASE %I FROM PUBLIC, %I', x.privilege, current_database(), current_user)
    FROM (VALUES ('TEMPORARY', 'temporary tables'), ('CREATE', 'schemas')) x (privilege, objects)
    WHERE has_database_privilege(current_database(), x.privilege)
    UNION ALL
    -- As the schema public does in a database that PostgreSQL 14 created.
    SELECT 'warning', 'schema ' || nspname, 'allows the role to create objects in it',
           format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC, %I', nspname, current_user)
    FROM elsewhere WHERE has_schema_privilege(oid, 'CREATE')
    UNION ALL
    SELECT 'warning', CASE problem WHEN 'BEHIND' THEN schema_name || ' dedicated schemas' ELSE 'schema ' || schema_name END,
           CASE problem WHEN 'MISSING' THEN 'does not exist, but an organization is placed in it'
                        WHEN 'BEHIND' THEN 'lack migrations, so requests of their organizations are refused'
                        ELSE 'belongs to no organization, and is not a copy to keep' END,
           CASE problem WHEN 'MISSING' THEN 'restore it from a backup'
                        WHEN 'BEHIND' THEN 'run tenantry migrate'
                        ELSE format('DROP SCHEMA %I CASCADE', schema_name) END
    FROM app.schema_problems($6)
    UNION ALL
    SELECT 'warning', 'table ' || t.name, 'is not in migration.tenant_tables, so its rows would be lost when an organization moves',
           'create it with a declaration, in a step of migration/'
    FROM tenant t
    WHERE t.organization_id IS NULL AND t.oid IN (SELECT oid FROM usable)
      AND t.name NOT IN (SELECT name FROM migration.tenant_tables)
    UNION ALL
    -- The default partition has no bound.
    SELECT 'warning', 'table audit.audit_logs', 'has partitions only up to ' || max(bound)::date, 'run tenantry audit partition'
    FROM (SELECT substring(pg_get_expr(p.relpartbound, p.oid) FROM $$TO \('([^']+)'\)$$)::timestamptz
          FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhrelid
          WHERE i.inhparent = to_regclass('audit.audit_logs') AND p.relkind = 'r') partition (bound)
    HAVING max(bound) < now() + interval '1 month'
    UNION ALL
    -- CVE-2025-8713: statistics reveal rows that policies hide.
    SELECT 'warning', 'server', 'runs PostgreSQL ' || current_setting('server_version') || ', which has known leaks past row-level security',
           'upgrade to the latest minor release'
    FROM (SELECT current_setting('server_version_num')::int) v (number)
    WHERE number < 150014 OR number BETWEEN 160000 AND 160009 OR number BETWEEN 170000 AND 170005
)
SELECT severity, subject, problem, remedy FROM finding
-- A superuser may do everything, so for one only role findings are meaningful; other remedies would
-- do harm.
WHERE subject LIKE 'role %' OR NOT EXISTS (SELECT FROM me WHERE rolsuper AND rolname = current_user)
ORDER BY severity, subject LIKE 'role %' DESC, subject, problem
