//! The self-check finds each planted fault, and `serve` refuses to start on it.

use tenantry::tenancy::{DatabaseOptions, Databases, Extent, Finding, Severity};

use crate::{
    schemas,
    support::{database::Database, process},
};

async fn check(database: &Database, role: &str) -> Vec<Finding> {
    check_copies(database, role, Extent::Complete).await
}

async fn check_copies(database: &Database, role: &str, extent: Extent) -> Vec<Finding> {
    let options = DatabaseOptions {
        system: None,
        listen: None,
        replica: None,
        dedicated: Vec::new(),
        connect: database.admin().with("user", role),
        max_connections: 1,
        acquire_timeout: std::time::Duration::from_secs(5),
        statement_cache: 100,
    };
    Databases::shared(&options).unwrap().self_check(extent).await.unwrap()
}

/// Plants a fault and expects findings with these texts, from the library and from the program.
async fn planted(sql: &str, severity: Severity, expected: &[&str]) {
    let database = Database::create().await;
    // Roles belong to the whole cluster, so a role of this test replaces the app role.
    let role = format!("app_{}", database.name);
    let name = &database.name;
    database
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; ALTER ROLE {role} SET search_path TO app, auth, billing, audit, pg_temp;
             GRANT USAGE ON SCHEMA app, auth, billing, audit, migration TO {role};
             DO $do$ DECLARE f regprocedure; BEGIN
                 FOR f IN SELECT oid FROM pg_proc WHERE pronamespace IN ('app'::regnamespace, 'auth'::regnamespace)
                          AND has_function_privilege('tenantry_app', oid, 'EXECUTE')
                 LOOP EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {role}', f); END LOOP;
             END $do$;
             ALTER ROLE {role} SET jit TO off; ALTER ROLE {role} SET statement_timeout TO '10s';
             ALTER ROLE {role} SET lock_timeout TO '5s'; ALTER ROLE {role} SET TimeZone TO 'UTC';
             ALTER ROLE {role} SET idle_in_transaction_session_timeout TO '15s';
             ALTER ROLE {role} SET client_connection_check_interval TO '500ms';
             ALTER ROLE {role} SET plan_cache_mode TO 'force_generic_plan';
             GRANT SELECT ON migration.seaql_migrations, migration.functions, migration.tenant_tables, billing.features TO {role}; GRANT CONNECT ON DATABASE {name} TO {role}"
        ))
        .await;
    schemas::create_schemas(&database, [schemas::organization(1)].into_iter()).await;
    assert_eq!(check(&database, &role).await, [], "before any fault is planted");
    let schema = schemas::schema(1);
    let named = sql
        .replace("CREATEROLE", "OPTION")
        .replace("ROLE", &role)
        .replace("OPTION", "CREATEROLE")
        .replace("ORG_SCHEMA", &schema);
    database.execute(&named.replace("DATABASE_NAME", name)).await;
    let findings = check(&database, &role).await;
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    for expected in expected {
        let expected = expected.replacen("ROLE", &role, 1).replace("DATABASE_NAME", name);
        let expected = expected.replace("ORG_SCHEMA", &schema);
        assert!(
            lines.iter().any(|line| line.contains(&expected)),
            "{expected:?} is not in {lines:#?}"
        );
    }
    let worst = if findings.iter().any(|finding| finding.severity == Severity::Fault) {
        Severity::Fault
    } else {
        Severity::Warning
    };
    assert_eq!(worst, severity, "{lines:#?}");

    let (url, faulty) = (database.url(&role), severity == Severity::Fault);
    tokio::task::spawn_blocking(move || {
        let doctor = process::run(process::tenantry().arg("doctor").env("DATABASE_URL", &url));
        assert_eq!(doctor.code, Some(i32::from(faulty)), "{}{}", doctor.stdout, doctor.stderr);
        assert_eq!(
            doctor.stdout.lines().filter(|line| line.contains("; remedy: ")).count(),
            lines.len()
        );
        if faulty {
            let serve = process::run(
                process::tenantry()
                    .arg("serve")
                    .env("DATABASE_URL", &url)
                    .env("JWT_SECRET", "0".repeat(32))
                    .env("SECRET_KEY", "0".repeat(32))
                    .env("LISTEN_ADDR", "127.0.0.1:0"),
            );
            assert_eq!(serve.code, Some(1));
            let mut lines = serve.stderr.lines().peekable();
            assert!(lines.peek().is_some(), "no fault");
            for line in lines {
                assert!(line.contains("fault: ") && line.contains("; remedy: "), "{line}");
            }
        }
    })
    .await
    .unwrap();
}

async fn fault(sql: &str, expected: &[&str]) {
    planted(sql, Severity::Fault, expected).await;
}

#[tokio::test]
async fn a_migrated_database_has_no_finding() {
    let database = Database::create().await;
    assert_eq!(check(&database, "tenantry_app").await, []);
    let url = database.url("tenantry_app");
    let doctor = tokio::task::spawn_blocking(move || {
        process::run(process::tenantry().arg("doctor").env("DATABASE_URL", url))
    });
    let doctor = doctor.await.unwrap();
    assert_eq!((doctor.code, doctor.stdout.trim()), (Some(0), "All is well."), "{}", doctor.stderr);
}

#[tokio::test]
async fn a_superuser_is_reported() {
    fault("ALTER USER ROLE SUPERUSER", &["role ROLE is a superuser"]).await;
}

#[tokio::test]
async fn a_role_with_bypassrls_is_reported() {
    fault("ALTER USER ROLE BYPASSRLS", &["role ROLE has BYPASSRLS"]).await;
}

#[tokio::test]
async fn an_owner_is_reported() {
    fault("ALTER TABLE app.projects OWNER TO ROLE", &["role ROLE owns TABLE app.projects"]).await;
    fault("ALTER DATABASE DATABASE_NAME OWNER TO ROLE", &["owns DATABASE DATABASE_NAME"]).await;
    fault(
        "ALTER FUNCTION app.claim_slug OWNER TO ROLE",
        &["owns FUNCTION app.claim_slug(p_slug text, p_organization uuid)"],
    )
    .await;
}

#[tokio::test]
async fn a_member_of_the_owner_is_reported() {
    fault("GRANT tenantry_owner TO ROLE", &["role ROLE is a member of tenantry_owner"]).await;
}

#[tokio::test]
async fn a_table_without_row_level_security_is_reported() {
    fault(
        "ALTER TABLE app.projects DISABLE ROW LEVEL SECURITY",
        &["table app.projects has no row-level security"],
    )
    .await;
    fault(
        "CREATE TABLE billing.invoices (organization_id uuid PRIMARY KEY)",
        &["table billing.invoices has no row-level security"],
    )
    .await;
}

#[tokio::test]
async fn a_table_without_forced_row_level_security_is_reported() {
    fault(
        "ALTER TABLE audit.audit_logs NO FORCE ROW LEVEL SECURITY",
        &["table audit.audit_logs does not force"],
    )
    .await;
}

#[tokio::test]
async fn a_table_without_its_policy_is_reported() {
    fault(
        "GRANT UPDATE ON app.projects TO ROLE; DROP POLICY tenantry_app_update ON app.projects",
        &["table app.projects has no policy for UPDATE"],
    )
    .await;
    fault(
        "CREATE POLICY open ON app.projects FOR SELECT USING (true)",
        &["table app.projects has the policy open, which does not restrict rows"],
    )
    .await;
}

#[tokio::test]
async fn a_permissive_policy_is_reported() {
    let leaky = "has the policy";
    for sql in [
        "CREATE POLICY leaky ON app.projects FOR SELECT TO ROLE
             USING (organization_id = (SELECT app.current_organization()) OR true)",
        // USING alone does not restrict new rows.
        "CREATE POLICY leaky ON app.projects FOR UPDATE TO ROLE
             USING (organization_id = (SELECT app.current_organization()))
             WITH CHECK (true)",
        "CREATE POLICY leaky ON auth.users FOR SELECT TO ROLE USING (true)",
        // Any session can change a setting.
        "CREATE POLICY leaky ON app.projects FOR SELECT TO ROLE
             USING (organization_id = (SELECT nullif(current_setting('app.current_org_id', true), '')::uuid))",
        "CREATE POLICY leaky ON app.projects FOR SELECT TO tenantry_system USING (true)",
    ] {
        fault(sql, &[leaky]).await;
    }
    fault(
        "GRANT SELECT ON auth.identities TO ROLE",
        &["table auth.identities has no organization_id, but allows the role SELECT"],
    )
    .await;
    fault(
        "GRANT INSERT ON migration.seaql_migrations TO ROLE",
        &["table migration.seaql_migrations allows the role INSERT"],
    )
    .await;
    fault(
        "GRANT UPDATE ON migration.tenant_tables TO ROLE",
        &["table migration.tenant_tables allows the role UPDATE"],
    )
    .await;
}

#[tokio::test]
async fn a_view_in_another_schema_is_reported() {
    fault(
        "CREATE VIEW public.v AS SELECT * FROM app.projects; GRANT SELECT ON public.v TO ROLE",
        &["view public.v reads tenant tables"],
    )
    .await;
    fault(
        "CREATE FUNCTION public.f() RETURNS SETOF app.projects LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM app.projects'",
        &["function public.f() is SECURITY DEFINER with the rights of postgres"],
    )
    .await;
}

#[tokio::test]
async fn a_role_that_can_gain_rights_is_reported() {
    fault("ALTER USER ROLE CREATEROLE", &["role ROLE has CREATEROLE"]).await;
    fault("ALTER USER ROLE REPLICATION", &["role ROLE has REPLICATION"]).await;
    fault("ALTER USER ROLE CREATEDB", &["role ROLE has CREATEDB"]).await;
}

#[tokio::test]
async fn a_preset_tenant_is_reported() {
    fault(
        "ALTER DATABASE DATABASE_NAME SET app.current_org_id = '00000000-0000-4000-8000-00000000000a'",
        &["starts every connection with the setting app.current_org_id"],
    )
    .await;
}

#[tokio::test]
async fn a_missing_function_is_reported() {
    fault(
        "REVOKE EXECUTE ON FUNCTION auth.viewer_memberships FROM ROLE",
        &["function auth.viewer_memberships() cannot be executed by the role"],
    )
    .await;
}

#[tokio::test]
async fn a_forgeable_session_is_reported() {
    for (sql, expected) in [
        (
            "CREATE OR REPLACE FUNCTION app.current_organization() RETURNS uuid LANGUAGE sql STABLE
                 RETURN nullif(current_setting('app.any', true), '')::uuid",
            "function app.current_organization() has an unexpected definition",
        ),
        (
            "ALTER FUNCTION auth.current_user_id OWNER TO ROLE",
            "function auth.current_user_id() has an unexpected definition",
        ),
        (
            "GRANT SET ON PARAMETER session_replication_role TO ROLE",
            "role ROLE may set the parameter session_replication_role",
        ),
        (
            "GRANT EXECUTE ON FUNCTION auth.enter_organization TO ROLE",
            "auth.enter_organization(p_organization uuid, OUT placement text, OUT placement_version text, OUT placement_generation bigint) is for background work",
        ),
        (
            "GRANT INSERT ON audit.audit_logs TO ROLE",
            "allows ROLE to write created_at of audit rows",
        ),
        (
            "GRANT INSERT (actor_id) ON audit.audit_logs TO tenantry_system",
            "allows tenantry_system to write actor_id of audit rows",
        ),
        (
            "GRANT SELECT ON auth.identities TO tenantry_system",
            "table auth.identities has no organization_id, but allows the role SELECT",
        ),
    ] {
        fault(sql, &[expected]).await;
    }
}

#[tokio::test]
async fn plain_session_settings_are_a_warning() {
    planted(
        "CREATE OR REPLACE FUNCTION app.current_organization() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
             RETURN nullif(current_setting('app.current_org_id', true), '')::uuid",
        Severity::Warning,
        &["function app.current_organization() reads a setting that SQL of the role can change; \
           remedy: GRANT SET ON PARAMETER backtrace_functions TO tenantry_owner, as a superuser, and run tenantry migrate"],
    )
    .await;
}

#[tokio::test]
async fn an_unprotected_partition_is_reported() {
    fault(
        "CREATE TABLE app.events (organization_id uuid, at timestamptz) PARTITION BY RANGE (at);
         ALTER TABLE app.events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
         CREATE TABLE app.events_1 PARTITION OF app.events DEFAULT",
        &["table app.events_1 has no row-level security"],
    )
    .await;
}

#[tokio::test]
async fn a_truncate_grant_and_a_public_grant_are_reported() {
    fault("GRANT TRUNCATE ON app.projects TO ROLE", &["table app.projects grants TRUNCATE"]).await;
    fault("GRANT SELECT ON auth.users TO PUBLIC", &["relation auth.users grants SELECT to PUBLIC"])
        .await;
    fault(
        "GRANT DELETE ON audit.audit_logs TO ROLE",
        &["table audit.audit_logs allows the role DELETE"],
    )
    .await;
    fault("GRANT CREATE ON SCHEMA app TO ROLE", &["schema app allows the role to create"]).await;
}

#[tokio::test]
async fn an_unpinned_or_public_definer_function_is_reported() {
    fault(
        "ALTER FUNCTION app.claim_slug RESET search_path",
        &["app.claim_slug(p_slug text, p_organization uuid) is SECURITY DEFINER without a pinned"],
    )
    .await;
    fault(
        "ALTER FUNCTION app.claim_slug SET search_path = pg_temp, app",
        &["app.claim_slug(p_slug text, p_organization uuid) is SECURITY DEFINER without a pinned"],
    )
    .await;
    fault(
        "GRANT EXECUTE ON FUNCTION app.claim_slug TO PUBLIC",
        &["app.claim_slug(p_slug text, p_organization uuid) is SECURITY DEFINER and executable by PUBLIC"],
    )
    .await;
}

#[tokio::test]
async fn a_view_with_its_owner_s_rights_is_reported() {
    fault(
        "CREATE VIEW app.v AS SELECT * FROM app.projects",
        &["view app.v runs with its owner's rights"],
    )
    .await;
    fault(
        "CREATE MATERIALIZED VIEW app.m AS SELECT 1 AS x; GRANT SELECT ON app.m TO ROLE",
        &["relation app.m is a materialized view"],
    )
    .await;
}

#[tokio::test]
async fn an_unsafe_search_path_is_reported() {
    fault("ALTER USER ROLE SET search_path TO public, app", &["has the search_path public, app"])
        .await;
}

#[tokio::test]
async fn a_trigger_that_is_missing_or_disabled_is_a_fault() {
    let statements = "ALTER TABLE auth.users DISABLE TRIGGER copy_suspension;
        ALTER TABLE ORG_SCHEMA.organization_features DISABLE TRIGGER note_exceptions;
        DROP TRIGGER refresh_lookup ON app.placements;
        DROP TRIGGER refresh_lookup ON app.organizations;
        CREATE TRIGGER refresh_lookup AFTER DELETE ON app.organizations FOR EACH ROW
            EXECUTE FUNCTION app.refresh_changed_lookup()";
    fault(
        statements,
        &[
            "table auth.users has the trigger copy_suspension disabled; remedy: ALTER TABLE auth.users \
             ENABLE TRIGGER copy_suspension; SET app.replicating = 'on'; UPDATE auth.identities",
            "table ORG_SCHEMA.organization_features has the trigger note_exceptions disabled",
            "table app.placements lacks the trigger refresh_lookup",
            "table app.organizations lacks the trigger refresh_lookup",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_copy_that_could_open_a_session_is_a_fault_and_another_a_warning() {
    let lookup = "table app.organization_lookup differs from the rows that it copies, and requests are opened \
                  from it; remedy: SELECT app.refresh_stale_lookups()";
    let identities = "table auth.identities differs from the rows that it copies, and requests are opened \
                      from it; remedy: SET app.replicating = 'on'; UPDATE auth.identities i \
                      SET suspended_at = u.suspended_at FROM auth.users u WHERE u.id = i.user_id \
                      AND i.suspended_at IS DISTINCT FROM u.suspended_at; RESET app.replicating";
    for (source, change, expected) in [
        ("app.organizations", "UPDATE app.organizations SET name = 'x'", lookup),
        (
            "billing.organization_billing",
            "UPDATE billing.organization_billing SET paid_until = now()",
            lookup,
        ),
        (
            "app.placements",
            "INSERT INTO app.placements (organization_id, placement, suspension, suspended_at)
                 SELECT id, 'shared', 'full', now() FROM app.organizations",
            lookup,
        ),
        ("auth.users", "UPDATE auth.users SET suspended_at = now()", identities),
    ] {
        let sql = format!(
            "SET session_replication_role = replica; {change}; RESET session_replication_role"
        );
        let database = Database::create().await;
        database.connect_admin().await.batch(&sql).await.unwrap();
        let findings = check(&database, "tenantry_app").await;
        let texts: Vec<_> = findings.iter().map(ToString::to_string).collect();
        let keeps_out = ["app.placements", "auth.users"].contains(&source);
        let severity = if keeps_out { "fault" } else { "warning" };
        assert_eq!(texts, [format!("{severity}: {expected}")], "{source}");
        let at_start = check_copies(&database, "tenantry_app", Extent::Quick).await;
        assert_eq!(at_start, if keeps_out { findings } else { Vec::new() }, "{source}");
        let (_, remedy) = expected.split_once("remedy: ").unwrap();
        database.execute(remedy).await;
        assert_eq!(check(&database, "tenantry_app").await, [], "{source}");
    }
}

#[tokio::test]
async fn a_table_that_was_not_declared_is_a_warning() {
    planted(
        "DELETE FROM migration.tenant_tables WHERE name = 'billing.usage'",
        Severity::Warning,
        &["table billing.usage is not in migration.tenant_tables"],
    )
    .await;
}

#[tokio::test]
async fn an_unindexed_foreign_key_is_a_warning() {
    planted(
        "DROP INDEX app.projects_created_by_idx",
        Severity::Warning,
        &["warning: table app.projects has no index for its foreign key projects_created_by_fkey; remedy: CREATE INDEX ON app.projects (created_by)"],
    )
    .await;
    planted(
        "ALTER USER ROLE SET statement_timeout TO 0",
        Severity::Warning,
        &["role ROLE has statement_timeout = 0"],
    )
    .await;
    planted(
        "GRANT TEMPORARY ON DATABASE DATABASE_NAME TO ROLE",
        Severity::Warning,
        &["temporary tables"],
    )
    .await;
}

#[tokio::test]
async fn a_role_that_can_create_objects_is_a_warning() {
    planted(
        "GRANT CREATE ON DATABASE DATABASE_NAME TO ROLE",
        Severity::Warning,
        &["database DATABASE_NAME allows the role to create schemas; remedy: REVOKE CREATE ON DATABASE"],
    )
    .await;
    // As PostgreSQL 14 and earlier created every database.
    planted(
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        Severity::Warning,
        &["schema public allows the role to create objects in it; remedy: REVOKE CREATE ON SCHEMA public FROM PUBLIC"],
    )
    .await;
}

#[tokio::test]
async fn a_dedicated_schema_is_checked_like_the_shared_tables() {
    for (sql, expected) in [
        (
            "ALTER TABLE ORG_SCHEMA.projects DISABLE ROW LEVEL SECURITY",
            "table ORG_SCHEMA.projects has no row-level security",
        ),
        (
            "ALTER TABLE ORG_SCHEMA.outbox NO FORCE ROW LEVEL SECURITY",
            "table ORG_SCHEMA.outbox does not force",
        ),
        (
            "CREATE TABLE ORG_SCHEMA.more (organization_id uuid PRIMARY KEY)",
            "table ORG_SCHEMA.more has no row-level security",
        ),
        (
            "GRANT UPDATE ON ORG_SCHEMA.projects TO ROLE",
            "table ORG_SCHEMA.projects has no policy for UPDATE",
        ),
        (
            "GRANT DELETE ON ORG_SCHEMA.audit_logs TO ROLE",
            "table ORG_SCHEMA.audit_logs allows the role DELETE on audit rows",
        ),
        ("GRANT TRUNCATE ON ORG_SCHEMA.usage TO ROLE", "table ORG_SCHEMA.usage grants TRUNCATE"),
        ("GRANT SELECT ON ORG_SCHEMA.usage TO PUBLIC", "grants SELECT to PUBLIC"),
        (
            "GRANT CREATE ON SCHEMA ORG_SCHEMA TO ROLE",
            "schema ORG_SCHEMA allows the role to create",
        ),
        ("ALTER TABLE ORG_SCHEMA.projects OWNER TO ROLE", "owns TABLE ORG_SCHEMA.projects"),
        (
            "CREATE TABLE ORG_SCHEMA.others (id uuid PRIMARY KEY);
             ALTER TABLE ORG_SCHEMA.others ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
             GRANT SELECT ON ORG_SCHEMA.others TO ROLE",
            "table ORG_SCHEMA.others has no organization_id, but allows the role SELECT",
        ),
        (
            "CREATE VIEW ORG_SCHEMA.v AS SELECT * FROM app.projects",
            "view ORG_SCHEMA.v runs with its owner's rights",
        ),
    ] {
        fault(sql, &[expected]).await;
    }
}

#[tokio::test]
async fn a_permissive_policy_in_a_dedicated_schema_is_reported() {
    for sql in [
        "CREATE POLICY leaky ON ORG_SCHEMA.projects FOR SELECT TO ROLE USING (true)",
        "CREATE POLICY leaky ON ORG_SCHEMA.projects FOR SELECT USING (organization_id IS NOT NULL)",
        "CREATE POLICY leaky ON ORG_SCHEMA.projects FOR UPDATE TO ROLE
             USING (organization_id = (SELECT app.current_organization()))
             WITH CHECK (true)",
        // The right condition on the wrong column.
        "CREATE POLICY leaky ON ORG_SCHEMA.projects FOR SELECT TO ROLE
             USING (id = (SELECT app.current_organization()))",
        // Right in every other table; here the column of that name has another meaning.
        "CREATE POLICY leaky ON ORG_SCHEMA.organizations FOR SELECT TO ROLE
             USING (id = (SELECT auth.current_user_id()))",
    ] {
        fault(sql, &["has the policy leaky, which does not restrict rows to the organization"])
            .await;
    }
    // A permissive policy beside the correct ones, in two schemas.
    let database = Database::create().await;
    schemas::create_schemas(&database, [1, 2].map(schemas::organization).into_iter()).await;
    assert_eq!(check(&database, "tenantry_app").await, []);
    let schema = schemas::schema(2);
    database
        .execute(&format!("ALTER POLICY tenantry_app_select ON {schema}.projects USING (true)"))
        .await;
    let findings = check(&database, "tenantry_app").await;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].subject, format!("table {schema}.projects"));
}

#[tokio::test]
async fn a_table_of_a_dedicated_schema_without_its_constraint_is_reported() {
    let problem = "table ORG_SCHEMA.projects is not restricted to the organization of its schema";
    let remade = "ALTER TABLE ORG_SCHEMA.projects DROP CONSTRAINT single_organization";
    for sql in [
        remade.to_owned(),
        format!(
            "{remade}, ADD CONSTRAINT single_organization CHECK (organization_id = '{}')",
            schemas::organization(2)
        ),
        format!(
            "{remade}, ADD CONSTRAINT single_organization CHECK (id = '{}')",
            schemas::organization(1)
        ),
        format!(
            "{remade}, ADD CONSTRAINT single_organization CHECK (organization_id = '{}' OR name > '')",
            schemas::organization(1)
        ),
        format!(
            "{remade}; ALTER TABLE ORG_SCHEMA.projects ADD CONSTRAINT single_organization
                 CHECK (organization_id = '{}') NOT VALID",
            schemas::organization(1)
        ),
    ] {
        fault(&sql, &[problem]).await;
    }
}

#[tokio::test]
async fn a_definer_function_in_a_dedicated_schema_is_reported() {
    fault(
        "CREATE FUNCTION ORG_SCHEMA.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = pg_temp AS 'SELECT 1';
         REVOKE EXECUTE ON FUNCTION ORG_SCHEMA.f FROM PUBLIC; GRANT EXECUTE ON FUNCTION ORG_SCHEMA.f TO ROLE",
        &["function ORG_SCHEMA.f() is SECURITY DEFINER in a dedicated schema"],
    )
    .await;
}

#[tokio::test]
async fn a_fault_of_a_dedicated_schema_affects_its_organization_only() {
    for (sql, expected) in [
        (
            "UPDATE app.placements SET version = NULL",
            "1 dedicated schemas lack migrations, so requests of their organizations are refused; remedy: run tenantry migrate",
        ),
        (
            "DROP SCHEMA ORG_SCHEMA CASCADE",
            "schema ORG_SCHEMA does not exist, but an organization is placed in it",
        ),
        ("DELETE FROM app.placements", "schema ORG_SCHEMA belongs to no organization"),
        (
            "UPDATE app.placements SET placement = 'shared', old_placement = 'schema', keep_old_until = now() - interval '2 days'",
            "schema ORG_SCHEMA belongs to no organization",
        ),
    ] {
        planted(sql, Severity::Warning, &[expected]).await;
    }
}

#[tokio::test]
async fn a_fault_that_appears_later_makes_the_server_unready() {
    let app = crate::support::App::start().await;
    let ready = || async { reqwest::get(format!("{}/readyz", app.base)).await.unwrap().status() };
    assert_eq!(ready().await, 200);
    app.database.execute("ALTER TABLE app.projects DISABLE ROW LEVEL SECURITY").await;
    let start = std::time::Instant::now();
    while ready().await != 503 {
        assert!(start.elapsed() < crate::support::HANG);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let admin = app.database.connect_admin().await;
    admin.batch("ALTER TABLE app.projects ENABLE ROW LEVEL SECURITY").await.unwrap();
    while ready().await != 200 {
        assert!(start.elapsed() < crate::support::HANG);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
