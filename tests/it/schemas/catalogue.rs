//! The contents of a dedicated schema, enumerated from the catalogue.

use migration::{
    STEPS, migrate,
    placement::{SCHEMA_VERSION, schema_of},
};
use uuid::Uuid;

use super::{LATER, create_schemas, migrate_to_later, of_step, organization};
use crate::support::database::{Database, tenant_tables};

/// Returns everything that PostgreSQL has about the tables of a schema, one line each. Two
/// organizations with the same tables get the same lines.
async fn described(database: &Database, organization: Uuid) -> Vec<String> {
    let schema = schema_of(organization);
    let connection = database.connect_admin().await;
    let lines: Vec<String> = connection
        .query(
            "WITH t AS (SELECT c.* FROM pg_class c WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p'))
         SELECT concat_ws(' ', 'table', relname, relkind, relowner::regrole, relrowsecurity, relforcerowsecurity, reloptions,
                          obj_description(oid, 'pg_class')) FROM t
         UNION ALL
         SELECT concat_ws(' ', 'column', relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
                          attstorage, pg_get_expr(adbin, adrelid), attacl, col_description(t.oid, attnum))
         FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND attnum > 0 AND NOT attisdropped
         LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = attnum
         UNION ALL
         SELECT concat_ws(' ', 'constraint', relname, conname, convalidated, pg_get_constraintdef(k.oid))
         FROM t JOIN pg_constraint k ON k.conrelid = t.oid
         UNION ALL
         SELECT concat_ws(' ', 'index', pg_get_indexdef(indexrelid), indisvalid) FROM t JOIN pg_index i ON i.indrelid = t.oid
         UNION ALL
         SELECT concat_ws(' ', 'policy', relname, polname, polcmd, polpermissive, polroles::regrole[], pg_get_expr(polqual, polrelid), '|',
                          pg_get_expr(polwithcheck, polrelid))
         FROM t JOIN pg_policy p ON p.polrelid = t.oid
         UNION ALL
         SELECT concat_ws(' ', 'grant', relname, a.grantee::regrole, privilege_type, is_grantable) FROM t CROSS JOIN aclexplode(relacl) a
         UNION ALL
         SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(g.oid), tgenabled) FROM t JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT tgisinternal
         UNION ALL
         SELECT concat_ws(' ', 'other', c.relkind, c.relname) FROM pg_class c
         WHERE c.relnamespace = $1::regnamespace AND c.relkind NOT IN ('r', 'p', 'i', 't')
         UNION ALL
         SELECT concat_ws(' ', 'function', p.proname) FROM pg_proc p WHERE p.pronamespace = $1::regnamespace
         UNION ALL
         SELECT concat_ws(' ', 'schema', nspowner::regrole, nspacl) FROM pg_namespace WHERE oid = $1::regnamespace
         ORDER BY 1",
            &[&schema],
        )
        .await
    .unwrap();
    let id = organization.to_string();
    lines.iter().map(|line| line.replace(&schema, "SCHEMA").replace(&id, "ID")).collect()
}

#[tokio::test]
async fn a_schema_of_any_step_migrates_to_the_current_form() {
    for steps in 1..=STEPS.len() {
        let database = of_step(steps).await;
        // Their functions are applied after all steps only.
        for table in ["app.placements", "app.organizations", "billing.organization_billing"] {
            database.execute(&format!("ALTER TABLE {table} DISABLE TRIGGER USER")).await;
        }
        create_schemas(&database, [organization(1)].into_iter()).await;
        let report = migrate(database.admin(), None).await.unwrap();
        assert_eq!(report.schemas.failed, []);
        create_schemas(&database, [organization(2)].into_iter()).await;
        compare_schemas(&database, &format!("created after {steps} steps")).await;
        let versions: Vec<String> =
            database.value("SELECT array_agg(version) FROM app.placements").await;
        assert_eq!(versions, [SCHEMA_VERSION.as_str(); 2]);
    }
}

/// The schema of the first organization was migrated, that of the second is new.
pub(super) async fn compare_schemas(database: &Database, created: &str) {
    let migrated = described(database, organization(1)).await;
    let new = described(database, organization(2)).await;
    assert!(new.len() > 150, "{new:#?}");
    let reason = "a step changes the shared tables and not the schemas";
    for line in &new {
        assert!(migrated.contains(line), "{created}, it lacks {line:?}: {reason}");
    }
    for line in &migrated {
        assert!(new.contains(line), "{created}, it has {line:?}: {reason}");
    }
}

#[tokio::test]
async fn a_later_step_changes_existing_schemas_and_new_ones() {
    let database = of_step(STEPS.len()).await;
    create_schemas(&database, [organization(1)].into_iter()).await;
    let report = migrate_to_later(&database).await;
    assert_eq!((report.applied, report.schemas.migrated), (vec![LATER.name.to_owned()], 1));
    create_schemas(&database, [organization(2)].into_iter()).await;
    compare_schemas(&database, "migrated by a later step").await;
    let described = described(&database, organization(1)).await;
    assert!(described.iter().any(|line| line.contains("later_archived_at")), "{described:#?}");
}

#[tokio::test]
async fn a_dedicated_schema_equals_the_shared_tables() {
    let database = Database::create().await;
    create_schemas(&database, [organization(1)].into_iter()).await;
    let described = described(&database, organization(1)).await;
    for table in tenant_tables() {
        let name = table.base_name();
        let shared: Vec<String> = database
            .value(&format!(
                "SELECT array_agg(regexp_replace(indexdef, '(ONLY )?{}', 'SCHEMA.{name}')) FROM pg_indexes
                 WHERE format('%s.%s', schemaname, tablename) = '{}'",
                table.name, table.name
            ))
            .await;
        for index in shared {
            assert!(described.iter().any(|line| line.contains(&index)), "{index}: {described:#?}");
        }
        let column = table.owner_column();
        let held =
            format!("constraint {name} single_organization t CHECK (({column} = 'ID'::uuid))");
        assert!(described.contains(&held), "{held}: {described:#?}");
    }
}

#[tokio::test]
async fn the_tables_of_organizations_are_listed_with_their_keys() {
    let database = Database::create().await;
    let found: Vec<String> = database
        .value(
            "SELECT array_agg(t.name || ': ' || t.key ORDER BY t.name) FROM (
                 SELECT format('%s.%s', n.nspname, c.relname) AS name,
                        string_agg(a.attname, ', ' ORDER BY array_position(k.conkey, a.attnum)) AS key
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p'
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (k.conkey)
                 WHERE n.nspname IN ('app', 'auth', 'billing', 'audit') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                   AND (EXISTS (SELECT FROM pg_attribute o WHERE o.attrelid = c.oid AND o.attname = 'organization_id'
                                AND NOT o.attisdropped) OR c.relname = 'organizations')
                   -- Tables read without a known organization, copies, and tables that outlive it.
                   AND c.relname NOT IN ('organization_slugs', 'organization_lookup', 'idempotency_keys', 'placements', 'pending_changes', 'directory_changes')
                 GROUP BY 1) t",
        )
        .await;
    let mut listed: Vec<String> =
        tenant_tables().iter().map(|table| format!("{}: {}", table.name, table.key)).collect();
    listed.sort();
    assert_eq!(listed, found, "the tables of an organization differ from those that move with it");
    for table in tenant_tables() {
        let noted = format!(
            "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'record_change' AND tgrelid = '{}'::regclass",
            table.name
        );
        let noted: String = database.value(&noted).await;
        let key = table.key.split(", ").map(|column| format!("'{column}'")).collect::<Vec<_>>();
        assert!(noted.ends_with(&format!("({})", key.join(", "))), "{noted}");
    }
    // Referenced tables come before those that refer to them.
    let order: Vec<&str> = tenant_tables().iter().map(|table| &*table.name).collect();
    let references: Vec<String> = database
        .value(
            "SELECT array_agg(format('%s %s', conrelid::regclass, confrelid::regclass)) FROM pg_constraint
             WHERE contype = 'f' AND conrelid <> confrelid",
        )
        .await;
    for reference in references {
        let (from, to) = reference.split_once(' ').unwrap();
        let place = |name: &str| order.iter().position(|table| *table == name);
        if let (Some(from), Some(to)) = (place(from), place(to)) {
            assert!(from > to, "{reference}");
        }
    }
}
