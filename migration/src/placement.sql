-- The statements that create a schema like the shared tables, in order.
-- $1: the schema.
-- Everything keeps its name, so that a later step is the same text for shared tables and schemas.
WITH source AS (
    SELECT t.position, t.name, c.oid, format('%I.%I', $1::text, c.relname) AS own
    FROM migration.tenant_tables t JOIN pg_class c ON c.oid = t.name::regclass
),
statement (stage, position, detail, text) AS (
    SELECT 1, 0, '', format('CREATE SCHEMA %I', $1)
    UNION ALL
    SELECT 2, 0, '', format('GRANT USAGE ON SCHEMA %I TO tenantry_app, tenantry_system', $1)
    UNION ALL
    SELECT 3, position, '', format('CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING INDEXES)', own, name) FROM source
    UNION ALL SELECT 4, position, '', format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', own) FROM source
    UNION ALL
    SELECT 5, s.position, p.polname,
           format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, s.own,
                  CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                  CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                  (SELECT string_agg(CASE r.oid WHEN 0 THEN 'PUBLIC' ELSE r.oid::regrole::text END, ', ') FROM unnest(p.polroles) r (oid)))
           || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
           || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
    FROM source s JOIN pg_policy p ON p.polrelid = s.oid
    UNION ALL
    SELECT 6, s.position, a.privilege_type, format('GRANT %s ON %s TO %s', a.privilege_type, s.own, a.grantee::regrole)
    FROM source s JOIN pg_class c ON c.oid = s.oid CROSS JOIN aclexplode(c.relacl) a
    WHERE a.grantee <> c.relowner
    UNION ALL
    SELECT 6, s.position, concat(a.grantee::regrole, c.attnum), format('GRANT %s (%I) ON %s TO %s', a.privilege_type, c.attname, s.own, a.grantee::regrole)
    FROM source s JOIN pg_attribute c ON c.attrelid = s.oid CROSS JOIN aclexplode(c.attacl) a
    UNION ALL
    SELECT 7, s.position, u.conname, format('ALTER TABLE %s ADD CONSTRAINT %I %s', s.own, u.conname, pg_get_constraintdef(u.oid))
    FROM source s JOIN pg_constraint u ON u.conrelid = s.oid AND u.contype IN ('p', 'u', 'x')
    UNION ALL
    SELECT 8, s.position, c.relname,
           replace(replace(pg_get_indexdef(c.oid), ' ON ONLY ', ' ON '), ' ON ' || s.name || ' ', ' ON ' || s.own || ' ')
    FROM source s JOIN pg_index i ON i.indrelid = s.oid JOIN pg_class c ON c.oid = i.indexrelid
    WHERE NOT EXISTS (SELECT FROM pg_constraint u WHERE u.conindid = i.indexrelid AND u.conrelid = s.oid)
    UNION ALL
    -- References between tables of organizations stay inside the schema.
    SELECT 9, s.position, f.conname,
           format('ALTER TABLE %s ADD CONSTRAINT %I %s', s.own, f.conname,
                  coalesce(replace(pg_get_constraintdef(f.oid), 'REFERENCES ' || r.name || '(', 'REFERENCES ' || r.own || '('),
                           pg_get_constraintdef(f.oid)))
    FROM source s JOIN pg_constraint f ON f.conrelid = s.oid AND f.contype = 'f' LEFT JOIN source r ON r.oid = f.confrelid
    UNION ALL
    SELECT 10, s.position, t.tgname, replace(pg_get_triggerdef(t.oid), ' ON ' || s.name || ' ', ' ON ' || s.own || ' ')
    FROM source s JOIN pg_trigger t ON t.tgrelid = s.oid AND NOT t.tgisinternal
)
SELECT text FROM statement ORDER BY stage, position, detail
