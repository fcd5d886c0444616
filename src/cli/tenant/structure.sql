-- Compares the tables of a dedicated schema with the shared ones: one line per missing or
-- additional item.
-- $1 is the schema, $2 the organization.
WITH pair AS (
    SELECT t.name, format('%I.%I', $1, c.relname) AS own_name, c.oid AS shared, o.oid AS own, split_part(t.key, ', ', 1) AS owner_column,
           CASE WHEN t.mirrored THEN t.key END AS mirrored
    FROM migration.tenant_tables t
    JOIN pg_class c ON c.oid = t.name::regclass
    LEFT JOIN pg_class o ON o.relname = c.relname AND o.relnamespace = to_regnamespace($1) AND o.relkind = 'r'
),
-- Both sides use the names of the dedicated schema, so that equal definitions have equal text.
side AS (
    SELECT name, own_name, owner_column, mirrored, shared AS oid, name AS called, true AS is_shared FROM pair
    UNION ALL SELECT name, own_name, owner_column, mirrored, own, own_name, false FROM pair WHERE own IS NOT NULL
),
fact (own_name, is_shared, text) AS (
    SELECT s.own_name, s.is_shared,
           concat_ws(' ', 'column', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'NOT NULL' END,
                     'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), 'GENERATED ' || nullif(a.attgenerated::text, ''))
    FROM side s JOIN pg_attribute a ON a.attrelid = s.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    UNION ALL
    -- Rows are copied as texts, so the order of the columns matters.
    SELECT s.own_name, s.is_shared, 'the column order ' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
    FROM side s JOIN pg_attribute a ON a.attrelid = s.oid AND a.attnum > 0 AND NOT a.attisdropped
    GROUP BY s.own_name, s.is_shared
    UNION ALL
    SELECT s.own_name, s.is_shared,
           'constraint ' || coalesce(replace(pg_get_constraintdef(c.oid), 'REFERENCES ' || r.called || '(', 'REFERENCES ' || r.own_name || '('),
                                     pg_get_constraintdef(c.oid))
    -- PostgreSQL 18 stores NOT NULL as a constraint too. It is compared with the column.
    FROM side s JOIN pg_constraint c ON c.conrelid = s.oid AND c.contype IN ('c', 'f', 'p', 'u', 'x')
    LEFT JOIN side r ON r.oid = c.confrelid
    UNION ALL
    SELECT own_name, true, format('constraint CHECK ((%I = %L::uuid))', owner_column, $2::uuid) FROM pair
    UNION ALL
    SELECT s.own_name, s.is_shared,
           'index ' || regexp_replace(pg_get_indexdef(i.indexrelid), '^CREATE (UNIQUE )?INDEX \S+ ON (ONLY )?\S+ ', '\1')
    FROM side s JOIN pg_index i ON i.indrelid = s.oid AND i.indisvalid
    UNION ALL
    SELECT s.own_name, s.is_shared,
           format('policy %I %s %s TO %s USING (%s) WITH CHECK (%s)', p.polname, p.polcmd, p.polpermissive,
                  (SELECT string_agg(r.oid::regrole::text, ', ' ORDER BY r.oid) FROM unnest(p.polroles) r (oid)),
                  pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
    FROM side s JOIN pg_policy p ON p.polrelid = s.oid
    UNION ALL
    SELECT s.own_name, s.is_shared, format('grant of %s to %s', a.privilege_type, a.grantee::regrole)
    FROM side s JOIN pg_class c ON c.oid = s.oid CROSS JOIN aclexplode(c.relacl) a WHERE a.grantee <> c.relowner
    UNION ALL
    SELECT s.own_name, s.is_shared, format('grant of %s (%I) to %s', a.privilege_type, c.attname, a.grantee::regrole)
    FROM side s JOIN pg_attribute c ON c.attrelid = s.oid CROSS JOIN aclexplode(c.attacl) a
    UNION ALL
    SELECT s.own_name, s.is_shared,
           concat('trigger ', replace(pg_get_triggerdef(t.oid), ' ON ' || s.called || ' ', ' ON ' || s.own_name || ' '),
                  CASE WHEN t.tgenabled <> 'O' THEN ', disabled' END)
    FROM side s JOIN pg_trigger t ON t.tgrelid = s.oid AND NOT t.tgisinternal AND t.tgname <> 'mirror_row'
    UNION ALL
    SELECT own_name, true, 'trigger mirror_row to ' || name || ' by ' || mirrored FROM pair WHERE mirrored IS NOT NULL
    UNION ALL
    SELECT s.own_name, false,
           concat('trigger mirror_row to ', replace(trim(trailing E'\\000' FROM encode(t.tgargs, 'escape')), E'\\000', ' by '),
                  CASE WHEN t.tgenabled <> 'O' THEN ', disabled' END)
    FROM side s JOIN pg_trigger t ON t.tgrelid = s.oid AND t.tgname = 'mirror_row'
    UNION ALL
    SELECT s.own_name, s.is_shared,
           concat('row-level security', CASE WHEN c.relrowsecurity THEN ' enabled' END, CASE WHEN c.relforcerowsecurity THEN ' and forced' END)
    FROM side s JOIN pg_class c ON c.oid = s.oid
    UNION ALL
    SELECT s.own_name, s.is_shared, 'owner ' || c.relowner::regrole FROM side s JOIN pg_class c ON c.oid = s.oid
),
there (own_name, is_shared, text) AS (SELECT f.* FROM fact f JOIN pair USING (own_name) WHERE pair.own IS NOT NULL)
SELECT line FROM (
    SELECT format('there is no schema %s', $1) WHERE to_regnamespace($1) IS NULL
    UNION ALL
    SELECT format('schema %s lacks grant of USAGE to %s', $1, role) FROM unnest(ARRAY['tenantry_app', 'tenantry_system']) role
        WHERE to_regnamespace($1) IS NOT NULL AND NOT has_schema_privilege(role, to_regnamespace($1), 'USAGE')
    UNION ALL SELECT format('there is no table %s', own_name) FROM pair WHERE own IS NULL
    UNION ALL
    SELECT format('table %s lacks %s', own_name, text)
        FROM (SELECT own_name, text FROM there WHERE is_shared EXCEPT SELECT own_name, text FROM there WHERE NOT is_shared) lacking
    UNION ALL
    SELECT format('table %s has %s, which the shared table lacks', own_name, text)
        FROM (SELECT own_name, text FROM there WHERE NOT is_shared EXCEPT SELECT own_name, text FROM there WHERE is_shared) beyond
) fault (line) ORDER BY line
