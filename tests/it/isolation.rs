//! Tenant isolation by enumeration: every tenant table in the catalogue.

use pg::{Client, Row};

use migration::{TenantTable, placement::schema_of};

use crate::support::{
    App,
    database::{Database, RowExt, tenant_tables},
    placement::{ACME, GLOBEX, organizations_in_eu, organizations_in_schemas},
    sessions::act,
};

const COMMANDS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// A tenant table: its name, the column with the owner of a row, and the privileges of the app
/// role.
struct Table {
    name: String,
    column: String,
    allowed: Vec<&'static str>,
}

/// The tables with rows of organizations that the app role may use. They are those that the
/// database lists, in shared and in dedicated schemas.
async fn usable_tables(connection: &Client) -> Vec<Table> {
    let rows = connection
        .query::<Row>(
            "SELECT format('%I.%I', n.nspname, c.relname) AS name, a.attname AS column, g.allowed
         FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
         CROSS JOIN LATERAL (SELECT ARRAY(
             SELECT p FROM unnest($1::text[]) p WHERE has_table_privilege('tenantry_app', c.oid, p)
                 OR p = 'INSERT' AND has_any_column_privilege('tenantry_app', c.oid, p))) g (allowed)
         WHERE (n.nspname IN ('app', 'auth', 'billing', 'audit') OR n.nspname LIKE 'org\\_%') AND c.relkind IN ('r', 'p')
           AND (a.attname = 'organization_id' OR a.attname = 'id' AND c.relname = 'organizations') AND g.allowed <> '{}'
         ORDER BY 1",
            &[&COMMANDS.as_slice()],
        )
        .await
    .unwrap();
    let tables: Vec<_> = rows
        .iter()
        .map(|row| {
            let allowed: Vec<String> = row.get("allowed");
            let allowed = COMMANDS.into_iter().filter(|c| allowed.iter().any(|a| a == c)).collect();
            Table { name: row.get("name"), column: row.get("column"), allowed }
        })
        .collect();
    let (own, shared): (Vec<_>, Vec<_>) =
        tables.iter().map(|table| table.name.as_str()).partition(|name| name.starts_with("org_"));
    assert_eq!(own.len(), organizations_in_schemas().len() * shared.len(), "{own:?}");
    let mut listed: Vec<_> = tenant_tables().iter().map(|table| table.name.as_str()).collect();
    listed.sort_unstable();
    assert_eq!(shared, listed, "a table without a declaration, or without a policy");
    tables
}

/// Returns whether the organization's rows are in this table, and not in one of the same name
/// elsewhere.
fn lives_in_table(table: &str, organization: &str) -> bool {
    let organization = organization.parse().unwrap();
    if organizations_in_eu() == [organization] {
        false
    } else if organizations_in_schemas().contains(&organization) {
        table.starts_with(&schema_of(organization))
    } else {
        !table.starts_with("org_")
    }
}

/// Inserts a row of each organization into these tenant tables, if the demo leaves them empty.
pub async fn fill(database: &Database, wanted: impl Fn(&TenantTable) -> bool) {
    let connection = database.connect_admin().await;
    for organization in [ACME, GLOBEX].map(|id| format!("'{id}'")) {
        for table in tenant_tables().iter().filter(|table| wanted(table)) {
            let (name, owner) = (&table.name, table.owner_column());
            let count = format!("SELECT count(*) FROM {name} WHERE {owner} = {organization}");
            if database.value::<i64>(&count).await == 0 {
                database.execute(&insertion(&connection, name, &organization).await).await;
            }
        }
    }
}

/// The statement that inserts a row into a table. Its organization is an expression, for which a
/// `FROM` can be appended. Values follow from the types of the columns and from the foreign keys,
/// except for two that must have a certain form.
pub async fn insertion(connection: &Client, table: &str, organization: &str) -> String {
    connection
        .query_one(
            "SELECT format('INSERT INTO %s (%s) SELECT %s', $1::text, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),
                    string_agg(CASE
                        WHEN a.attname = split_part(t.key, ', ', 1) THEN $2::text
                        WHEN a.attname = 'slug' THEN quote_literal('xx')
                        WHEN a.attname = 'action' THEN quote_literal('a.b')
                        WHEN r.name IS NOT NULL THEN concat('(SELECT ', r.attname, ' FROM ', r.name,
                            CASE WHEN r.owner IS NOT NULL THEN format(' WHERE %I = %s', r.owner, $2) END, ' LIMIT 1)')
                        WHEN y.typtype = 'e' THEN quote_literal((
                            SELECT enumlabel FROM pg_enum WHERE enumtypid = y.oid ORDER BY enumsortorder LIMIT 1))
                        WHEN y.typname IN ('timestamptz', 'date') THEN 'now()'
                        WHEN y.typname = 'uuid' THEN 'gen_random_uuid()'
                        WHEN y.typname = 'bytea' THEN format('sha256(%s::text::bytea)', $2)
                        WHEN y.typname = 'jsonb' THEN quote_literal('{}')
                        WHEN y.typname IN ('int4', 'int8', 'numeric') THEN '1'
                        WHEN y.typname = 'bool' THEN 'true'
                        ELSE quote_literal('x') END, ', ' ORDER BY a.attnum))
             FROM pg_class c JOIN migration.tenant_tables t ON split_part(t.name, '.', 2) = c.relname
                 JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type y ON y.oid = a.atttypid
                 LEFT JOIN LATERAL (
                     SELECT f.confrelid::regclass::text AS name, o.attname, split_part(p.key, ', ', 1) AS owner
                     FROM pg_constraint f JOIN pg_attribute o ON o.attrelid = f.confrelid
                             AND o.attnum = f.confkey[array_position(f.conkey, a.attnum)]
                         LEFT JOIN migration.tenant_tables p ON f.confrelid = p.name::regclass
                     WHERE f.conrelid = c.oid AND f.contype = 'f' LIMIT 1) r ON true
             WHERE c.oid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped
               AND (a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' OR a.attname = split_part(t.key, ', ', 1))",
            &[&table, &organization],
        )
        .await
        .unwrap()
}

/// A database with such rows, in which the organizations live.
async fn filled() -> Database {
    let database = Database::create().await;
    fill(&database, |_| true).await;
    match database.eu() {
        Some(eu) if organizations_in_eu().len() == 2 => eu.database,
        _ => database,
    }
}

async fn enter_session(connection: &Client, organization: Option<&str>) {
    connection.batch("BEGIN").await.unwrap();
    act(connection, organization, None).await;
}

/// Returns the SQLSTATE of a statement that must fail. The transaction continues.
async fn rejected_sqlstate(connection: &Client, sql: String) -> String {
    connection.batch("SAVEPOINT s").await.unwrap();
    let error = connection.batch(&sql).await.expect_err(&sql);
    connection.batch("ROLLBACK TO s").await.unwrap();
    error.code().unwrap().to_owned()
}

#[tokio::test]
async fn every_tenant_table_has_forced_row_level_security_and_its_policies() {
    let database = Database::create().await;
    let connection = database.connect_admin().await;
    for table in usable_tables(&connection).await {
        let name = &table.name;
        let forced: bool = connection
            .query_one(
                "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = $1::regclass",
                &[&name],
            )
            .await
        .unwrap();
        assert!(forced, "{name} does not force row-level security");

        let policies = connection
            .query::<Row>(
                "SELECT cmd, concat(qual, ' ', with_check) AS condition FROM pg_policies
             WHERE format('%I.%I', schemaname, tablename) = $1 AND roles = '{tenantry_app}' ORDER BY cmd",
                &[&name],
            )
            .await
        .unwrap();
        let mut commands: Vec<String> = policies.iter().map(|row| row.get("cmd")).collect();
        let mut allowed = table.allowed.clone();
        commands.sort();
        allowed.sort_unstable();
        assert_eq!(commands, allowed, "{name} has one policy for each command that is granted");
        for policy in &policies {
            let condition: String = policy.get("condition");
            assert!(condition.contains("current_organization()"), "{name}: {condition}");
        }

        let leading: i64 = connection
            .query_one(
                "SELECT count(*) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
             WHERE i.indrelid = $1::regclass AND a.attname = $2",
                &[&name, &table.column],
            )
            .await
        .unwrap();
        assert!(leading > 0, "{name} has no index that leads with {}", table.column);
    }
}

#[tokio::test]
async fn no_row_of_another_tenant_can_be_read_or_written() {
    let database = filled().await;
    let tables = usable_tables(&database.connect_admin().await).await;
    let before = database.fingerprint().await;
    // One connection throughout, so that later rounds reuse a connection whose setting is ''
    // instead of unset.
    let connection = database.connect_admin().await;
    for round in 0..2 {
        for organization in [Some(ACME), None] {
            enter_session(&connection, organization).await;
            for Table { name, column, allowed } in &tables {
                let context = format!("{name} as {organization:?}, round {round}");
                let of_globex = format!("{column} = '{GLOBEX}'");
                if allowed.contains(&"SELECT") {
                    let sql = format!("SELECT count(*) FROM {name} WHERE {of_globex}");
                    let seen: i64 = connection.query_one(&sql, &[]).await.unwrap();
                    assert_eq!(seen, 0, "{context}");
                }
                for (command, sql) in [
                    ("UPDATE", format!("UPDATE {name} SET {column} = {column} WHERE {of_globex}")),
                    ("DELETE", format!("DELETE FROM {name} WHERE {of_globex}")),
                ] {
                    if allowed.contains(&command) {
                        let done = connection.execute(&sql, &[]).await.unwrap();
                        assert_eq!(done, 0, "{command} {context}");
                    } else {
                        assert_eq!(
                            rejected_sqlstate(&connection, sql).await,
                            "42501",
                            "{command} {context}"
                        );
                    }
                }
                let insert = insertion(&connection, name, &format!("'{GLOBEX}'")).await;
                assert_eq!(
                    rejected_sqlstate(&connection, insert).await,
                    "42501",
                    "INSERT {context}"
                );
                let truncate = format!("TRUNCATE {name} CASCADE");
                assert_eq!(
                    rejected_sqlstate(&connection, truncate).await,
                    "42501",
                    "TRUNCATE {context}"
                );
            }
            connection.batch("COMMIT").await.unwrap();
        }
    }
    assert_eq!(database.fingerprint().await, before);
}

#[tokio::test]
async fn no_row_can_be_moved_to_another_tenant() {
    let database = filled().await;
    let connection = database.connect_admin().await;
    enter_session(&connection, Some(ACME)).await;
    let mut tried = 0;
    for Table { name, column, allowed } in usable_tables(&database.connect_admin().await).await {
        if !allowed.contains(&"UPDATE") {
            continue;
        }
        let count = format!("SELECT count(*) FROM {name}");
        let seen: i64 = connection.query_one(&count, &[]).await.unwrap();
        if seen == 0 {
            assert!(!lives_in_table(&name, ACME), "{name} has no row to move");
            continue;
        }
        let sql = format!("UPDATE {name} SET {column} = '{GLOBEX}'");
        assert_eq!(rejected_sqlstate(&connection, sql).await, "42501", "{name}");
        tried += 1;
    }
    assert!(tried > 0);
}

#[tokio::test]
async fn a_session_sees_all_rows_of_its_tenant() {
    let database = filled().await;
    let connection = database.connect_admin().await;
    enter_session(&connection, Some(GLOBEX)).await;
    for Table { name, column, .. } in usable_tables(&database.connect_admin().await).await {
        let sql = format!("SELECT count(*) FROM {name}");
        let seen: i64 = connection.query_one(&sql, &[]).await.unwrap();
        let sql = format!("SELECT count(*) FROM {name} WHERE {column} = '{GLOBEX}'");
        assert_eq!(seen, database.exactly::<i64>(&sql).await, "{name}");
        assert!(
            seen > 0 || !lives_in_table(&name, GLOBEX),
            "{name} has no row of globex, so the tests above show nothing"
        );
    }
}

#[tokio::test]
async fn rows_without_a_tenant_are_denied() {
    let database = Database::create().await;
    let connection = database.connect_app().await;
    connection.batch("BEGIN").await.unwrap();
    for table in [
        "auth.identities",
        "auth.erased_identities",
        "auth.unlinked_identities",
        "auth.idempotency_keys",
        "app.organization_slugs",
        "app.organization_lookup",
        "app.placements",
        "app.pending_changes",
        "billing.stripe_events",
    ] {
        for sql in [format!("SELECT * FROM {table}"), format!("DELETE FROM {table}")] {
            assert_eq!(rejected_sqlstate(&connection, sql).await, "42501", "{table}");
        }
    }
    for sql in [
        "INSERT INTO billing.plans (plan, name, position) VALUES ('x', 'x', 9)",
        "UPDATE billing.features SET kind = 'flag'",
        "DELETE FROM billing.organization_features",
        "UPDATE billing.plan_features SET limit_value = 9",
        "INSERT INTO auth.users (name) VALUES ('x')",
        "UPDATE auth.users SET name = 'x'",
        "CREATE TABLE app.x ()",
        "CREATE TEMPORARY TABLE x ()",
        "SET ROLE tenantry_owner",
        "ALTER TABLE app.projects DISABLE ROW LEVEL SECURITY",
    ] {
        assert_eq!(rejected_sqlstate(&connection, sql.to_owned()).await, "42501", "{sql}");
    }
}

#[tokio::test]
async fn foreign_keys_between_tenant_tables_include_the_organization() {
    let database = Database::create().await;
    let connection = database.connect_admin().await;
    let tenant: Vec<String> =
        usable_tables(&connection).await.into_iter().map(|table| table.name).collect();
    // Each foreign key between tenant tables, with the columns it pairs.
    let keys = connection
        .query::<Row>(
            "SELECT conname::text AS name, a.attname::text AS here, b.attname::text AS there
         FROM pg_constraint c
         CROSS JOIN LATERAL unnest(c.conkey, c.confkey) k (here, there)
         JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.here
         JOIN pg_attribute b ON b.attrelid = c.confrelid AND b.attnum = k.there
         WHERE c.contype = 'f'
           AND c.conrelid = ANY (SELECT t::regclass FROM unnest($1::text[]) t)
           AND c.confrelid = ANY (SELECT t::regclass FROM unnest($1::text[]) t)",
            &[&tenant],
        )
        .await
        .unwrap();
    let names: std::collections::BTreeSet<String> =
        keys.iter().map(|row| row.get("name")).collect();
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        let carries = keys.iter().any(|row| {
            row.get::<String>("name") == name
                && row.get::<String>("here") == "organization_id"
                && ["organization_id", "id"].contains(&row.get::<&str>("there"))
        });
        assert!(carries, "{name} could lead to another tenant's row");
    }
}

#[tokio::test]
async fn a_user_sees_no_other_user_outside_the_organization() {
    let app = App::start().await;
    let globex_owner = "00000000-0000-4000-8000-0000000000b1";
    let query = format!("{{ node(id: \"{globex_owner}\") {{ id }} }}");
    assert_eq!(app.user("acme-owner").data(&query).await["node"], serde_json::json!(null));
    assert_eq!(app.user("globex-viewer").data(&query).await["node"]["id"], globex_owner);

    let database = &app.database;
    let connection = database.connect_admin().await;
    let visible = "SELECT string_agg(name, ' ' ORDER BY name) FROM auth.users";
    for (organization, user, expected) in [
        (Some(ACME), "a1", Some("Adam Mia Olivia Victor")),
        // In an organization without a membership, a user still sees their own row. Only the server
        // can set the settings.
        (Some(ACME), "b1", Some("Adam Mia Olivia Omar Victor")),
        (None, "b1", Some("Omar")),
    ] {
        connection.batch("BEGIN").await.unwrap();
        let user = format!("00000000-0000-4000-8000-0000000000{user}");
        act(&connection, organization, Some(&user)).await;
        let seen: Option<String> = connection.query_one(visible, &[]).await.unwrap();
        assert_eq!(seen.as_deref(), expected);
        connection.batch("COMMIT").await.unwrap();
    }
    enter_session(&connection, None).await;
    let seen: Option<String> = connection.query_one(visible, &[]).await.unwrap();
    assert_eq!(seen, None, "without a session there is no user");
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memberships_of_two_organizations_never_mix() {
    let app = App::start().await;
    // Olivia is also a viewer of globex.
    app.database
        .execute(&format!(
            "INSERT INTO auth.organization_members (organization_id, user_id, role, joined_at)
             VALUES ('{GLOBEX}', '00000000-0000-4000-8000-0000000000a1', 'viewer', now() + interval '1 s')"
        ))
        .await;
    let token = || Some(crate::support::app::token("acme-owner"));
    let query = "{ viewer { memberships { slug role } }
                   organization { slug viewerRole members(first: 100) { totalCount nodes { user { name } } }
                                  projects { nodes { name } } } }";
    let ask = |slug: &'static str| {
        let client = app.client(Some(slug), token());
        async move { (slug, client.data(query).await) }
    };
    let queries = (0..40).map(|n| ask(if n % 2 == 0 { "acme" } else { "globex" }));
    for (slug, data) in futures_util::future::join_all(queries).await {
        assert_eq!(
            data["viewer"]["memberships"],
            serde_json::json!([{ "slug": "acme", "role": "OWNER" }, { "slug": "globex", "role": "VIEWER" }])
        );
        let organization = &data["organization"];
        assert_eq!(organization["slug"], slug);
        let (role, members, projects) =
            if slug == "acme" { ("OWNER", 4, 4) } else { ("VIEWER", 5, 2) };
        assert_eq!(organization["viewerRole"], role);
        assert_eq!(organization["members"]["totalCount"], members);
        assert_eq!(organization["projects"]["nodes"].as_array().unwrap().len(), projects);
    }
    let write = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
    app.client(Some("globex"), token()).query(write).await.assert_failed("FORBIDDEN");
}
