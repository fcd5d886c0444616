//! Statements that PostgreSQL denies to the app's role.

use super::{DENIED, GLOBEX, Injection, tables};
use crate::support::database::Database;

/// Readable for every caller, writable for none.
const CATALOGUE: [&str; 4] =
    ["billing.features", "billing.plan_features", "billing.plan_prices", "billing.plans"];

#[tokio::test]
async fn without_a_session_no_table_shows_or_changes_a_row() {
    let database = Database::create().await;
    let before = database.fingerprint().await;
    let mut fresh = Injection::fresh(&database).await;
    for table in tables(&database).await {
        let seen = fresh.attempt(&format!("SELECT FROM {table}")).await;
        if CATALOGUE.contains(&table.as_str()) {
            assert!(seen.is_ok(), "{table}: {seen:?}");
        } else {
            assert!(
                seen.as_ref().map_or_else(|(code, _)| code == DENIED, |rows| *rows == 0),
                "{table}: {seen:?}"
            );
        }
        for sql in
            [format!("DELETE FROM {table}"), format!("UPDATE {table} SET created_at = now()")]
        {
            let done = fresh.attempt(&sql).await;
            assert!(
                done.as_ref().map_or_else(|(code, _)| code == DENIED, |rows| *rows == 0),
                "{sql}: {done:?}"
            );
        }
    }
    fresh.run("COMMIT").await;
    assert_eq!(database.fingerprint().await, before);
}

#[tokio::test]
async fn identities_slugs_and_stripe_events_are_denied() {
    let database = Database::create().await;
    for mut injection in Injection::both(&database).await {
        for table in ["auth.identities", "app.organization_slugs", "billing.stripe_events"] {
            for sql in [
                format!("SELECT FROM {table}"),
                format!("INSERT INTO {table} DEFAULT VALUES"),
                format!("UPDATE {table} SET created_at = now()"),
                format!("DELETE FROM {table}"),
                format!("COPY {table} TO STDOUT"),
                format!("LOCK TABLE {table}"),
            ] {
                injection.all_denied(&[&sql]).await;
            }
        }
    }
}

#[tokio::test]
async fn row_level_security_cannot_be_switched_off() {
    let database = Database::create().await;
    for mut injection in Injection::both(&database).await {
        for table in tables(&database).await {
            for change in [
                "DISABLE ROW LEVEL SECURITY",
                "NO FORCE ROW LEVEL SECURITY",
                "OWNER TO tenantry_app",
                "DISABLE TRIGGER ALL",
                "SET SCHEMA public",
                "ADD COLUMN x int",
            ] {
                injection.all_denied(&[&format!("ALTER TABLE {table} {change}")]).await;
            }
        }
        injection
            .all_denied(&[
                "DROP POLICY tenantry_app_select ON projects",
                "ALTER POLICY tenantry_app_select ON projects USING (true)",
                "CREATE POLICY p ON projects USING (true)",
                "CREATE RULE r AS ON SELECT TO projects DO INSTEAD NOTHING",
                "CREATE TRIGGER t BEFORE UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION app.touch_updated_at()",
                "CREATE INDEX ON projects (name)",
                "DROP TABLE projects",
                "SET LOCAL session_replication_role = replica",
            ])
            .await;
        // The only setting that affects it raises an error instead of showing rows.
        injection.run("SET LOCAL row_security = off").await;
        for table in tables(&database).await {
            if !CATALOGUE.contains(&table.as_str()) {
                injection.all_denied(&[&format!("SELECT FROM {table}")]).await;
            }
        }
    }
}

#[tokio::test]
async fn no_table_can_be_truncated() {
    let database = Database::create().await;
    for mut injection in Injection::both(&database).await {
        for table in tables(&database).await {
            injection.all_denied(&[&format!("TRUNCATE {table} CASCADE")]).await;
        }
    }
}

#[tokio::test]
async fn nothing_can_be_created() {
    let database = Database::create().await;
    for mut injection in Injection::both(&database).await {
        injection
            .all_denied(&[
                "CREATE SCHEMA x",
                "CREATE TABLE app.x ()",
                "CREATE TABLE public.x ()",
                "CREATE TEMPORARY TABLE x ()",
                "CREATE TEMPORARY VIEW x AS SELECT 1",
                "CREATE TABLE app.x AS SELECT * FROM projects",
                "SELECT * INTO app.x FROM projects",
                "CREATE VIEW app.x AS SELECT * FROM projects",
                "CREATE MATERIALIZED VIEW app.x AS SELECT * FROM projects",
                "CREATE FUNCTION app.x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                "CREATE FUNCTION public.x() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
                "CREATE FUNCTION pg_temp.x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                "CREATE OPERATOR app.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)",
                "CREATE AGGREGATE app.x (int) (SFUNC = int4pl, STYPE = int)",
                "CREATE TYPE app.x AS (a int)",
                "CREATE SEQUENCE app.x",
                "CREATE STATISTICS app.x ON name, description FROM projects",
                "CREATE EVENT TRIGGER x ON ddl_command_start EXECUTE FUNCTION app.touch_updated_at()",
                "CREATE PUBLICATION x FOR TABLE projects",
                "CREATE SUBSCRIPTION x CONNECTION '' PUBLICATION x WITH (connect = false)",
                "LOAD 'plpgsql'",
            ])
            .await;
        let extensions = database.connect_admin().await;
        let offered: Vec<String> = extensions
            .query(
                "SELECT DISTINCT name::text FROM pg_available_extension_versions WHERE requires IS NULL AND NOT installed",
                &[],
            )
            .await
        .unwrap();
        for extension in offered.iter().filter(|name| *name != "plpgsql") {
            injection.all_denied(&[&format!("CREATE EXTENSION \"{extension}\"")]).await;
        }
    }
}

#[tokio::test]
async fn no_other_role_can_be_assumed() {
    let database = Database::create().await;
    let superuser: String = database.value("SELECT current_user::text").await;
    let outside = database.connect_app().await;
    let refused = outside.batch("ALTER SYSTEM SET work_mem = '1MB'").await.unwrap_err();
    assert_eq!(refused.code(), Some(DENIED));
    for mut injection in Injection::both(&database).await {
        for name in [
            superuser.as_str(),
            "tenantry_owner",
            "tenantry_system",
            "pg_read_all_data",
            "pg_execute_server_program",
        ] {
            for sql in [
                format!("SET ROLE {name}"),
                format!("SET SESSION AUTHORIZATION {name}"),
                format!("GRANT {name} TO tenantry_app"),
            ] {
                injection.all_denied(&[&sql]).await;
            }
        }
        injection
            .all_denied(&[
                "CREATE ROLE x",
                "ALTER ROLE tenantry_app SUPERUSER",
                "ALTER ROLE tenantry_app BYPASSRLS",
                "ALTER ROLE tenantry_app CREATEROLE",
                "ALTER ROLE tenantry_owner LOGIN",
                "SELECT pg_reload_conf()",
                "SELECT rolpassword FROM pg_authid",
                "SELECT * FROM pg_shadow",
                "SELECT * FROM pg_hba_file_rules",
                "SELECT * FROM pg_user_mapping",
            ])
            .await;
        // A tenant set as the default of later connections would apply to every request that sets
        // none.
        let stay = format!(
            "ALTER ROLE tenantry_app IN DATABASE {} SET app.current_org_id = '{GLOBEX}'",
            database.name
        );
        injection.all_denied(&[&stay]).await;
        assert_eq!(
            injection.text("SELECT current_user::text").await.as_deref(),
            Some("tenantry_app")
        );
    }
}

#[tokio::test]
async fn files_and_programs_of_the_server_are_denied() {
    let database = Database::create().await;
    for mut injection in Injection::both(&database).await {
        injection
            .all_denied(&[
                "COPY projects FROM PROGRAM 'id'",
                "COPY (SELECT 1) TO PROGRAM 'cat'",
                "COPY (SELECT * FROM projects) TO '/tmp/x'",
                "COPY projects FROM '/etc/passwd'",
                "SELECT pg_read_file('/etc/passwd')",
                "SELECT pg_read_binary_file('PG_VERSION')",
                "SELECT pg_ls_dir('.')",
                "SELECT pg_stat_file('PG_VERSION')",
                "SELECT pg_current_logfile()",
                "SELECT lo_import('/etc/passwd')",
                "SELECT lo_export(1, '/tmp/x')",
                "SELECT current_setting('data_directory')",
                "SELECT * FROM pg_create_logical_replication_slot('x', 'test_decoding')",
                "CHECKPOINT",
            ])
            .await;
        let found = injection
            .text("SELECT count(*)::text FROM pg_extension WHERE extname <> 'plpgsql'")
            .await;
        assert_eq!(
            found.as_deref(),
            Some("0"),
            "a new extension: decide what it allows to the app's role"
        );
    }
}

#[tokio::test]
async fn entries_of_the_audit_log_can_be_neither_changed_nor_deleted() {
    let database = Database::create().await;
    let before = database.fingerprint().await;
    for mut injection in Injection::both(&database).await {
        injection
            .all_denied(&[
                "UPDATE audit_logs SET action = 'a.b'",
                "DELETE FROM audit_logs",
                "TRUNCATE audit_logs",
                "MERGE INTO audit_logs USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
                "SELECT FROM audit_logs FOR UPDATE",
                "INSERT INTO audit_logs SELECT * FROM audit_logs
                 ON CONFLICT (organization_id, created_at, id) DO UPDATE SET action = 'a.b'",
                "LOCK TABLE audit_logs IN EXCLUSIVE MODE",
            ])
            .await;
        injection.run("COMMIT").await;
    }
    assert_eq!(database.fingerprint().await, before);
}

#[tokio::test]
async fn no_function_of_the_session_precedes_the_server_s() {
    let database = Database::create().await;
    for mut injection in Injection::both(&database).await {
        let creatable = "SELECT string_agg(nspname, ' ') FROM pg_namespace
                         WHERE has_schema_privilege(oid, 'CREATE') OR has_database_privilege(current_database(), 'TEMPORARY')";
        assert_eq!(
            injection.text(creatable).await,
            None,
            "schemas in which the role may create objects"
        );
        // The session chooses its search path, but not the one inside definer functions.
        injection.run("SET LOCAL search_path = pg_temp, public").await;
        let found = injection.text("SELECT count(*)::text FROM auth.viewer_memberships()").await;
        assert_eq!(found.as_deref(), Some(if injection.context == "fresh" { "0" } else { "1" }));
    }
}
