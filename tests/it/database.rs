//! Migrations: forward only, idempotent, safe to run concurrently, and from any earlier version.

use embedded_postgres::{Embedded, Options};
use migration::{
    Change, Error, INCOMPATIBLE, Passwords, Run, STEPS, Status, Step, migrate, migrate_with, status,
};
use pg::{Client, ConnectOptions};

use crate::{
    schemas::to_later,
    support::{
        database::Database,
        process::{self, tenantry},
    },
};

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let database = Database::create().await;
    let before = database.fingerprint().await;
    let report = migrate(database.admin(), None).await.unwrap();
    assert!(report.applied.is_empty(), "{report:?}");
    assert_eq!(database.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_migrations_apply_each_step_once() {
    // Two databases of one cluster with three servers each: they share the lock in a database, and
    // the roles in the cluster.
    let databases = [Database::empty().await, Database::empty().await];
    let runs = databases.iter().flat_map(|database| {
        (0..3).map(|_| {
            tokio::spawn({
                let options = database.admin();
                async move { migrate(options, Some("secret")).await.unwrap().applied.len() }
            })
        })
    });
    let applied: usize =
        futures_util::future::join_all(runs).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(applied, 2 * STEPS.len());
}

#[test]
fn names_of_steps_ascend_within_their_source() {
    for source in ["core", "app"] {
        let names: Vec<_> = STEPS
            .iter()
            .filter_map(|step| step.name.strip_prefix(source)?.strip_prefix('/'))
            .collect();
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
        for name in names {
            let (number, title) = name.split_once('_').unwrap();
            assert!(
                number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit()),
                "{name}"
            );
            let may_have = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
            assert!(!title.is_empty() && title.bytes().all(may_have), "{name}");
        }
    }
    let has_source = |step: &Step| ["core/", "app/"].iter().any(|s| step.name.starts_with(s));
    assert!(STEPS.iter().all(has_source));
}

#[tokio::test]
async fn a_database_of_any_earlier_version_migrates() {
    let later = to_later();
    for older in 0..later.steps.len() {
        let database = Database::empty().await;
        let run = Run { steps: later.steps[..older].to_vec(), ..Run::default() };
        migrate_with(database.admin(), Passwords::default(), &run).await.unwrap();
        let report = migrate_with(database.admin(), Passwords::default(), &later).await.unwrap();
        assert_eq!(report.applied.len(), later.steps.len() - older);
        let applied: i64 = database.value("SELECT count(*) FROM migration.seaql_migrations").await;
        assert_eq!(usize::try_from(applied).unwrap(), later.steps.len());
    }
}

#[tokio::test]
async fn a_failed_step_leaves_nothing_behind() {
    let database = Database::empty().await;
    let failing = Step {
        name: "core/9000_archive",
        changes: || vec![Change::once("CREATE TABLE app.half (); SELECT 1 / 0")],
    };
    let run = Run { steps: [&STEPS[..], &[failing]].concat(), ..Run::default() };
    assert!(migrate_with(database.admin(), Passwords::default(), &run).await.is_err());
    assert!(!database.value::<bool>("SELECT to_regclass('app.half') IS NOT NULL").await);
    let report = migrate_with(database.admin(), Passwords::default(), &to_later()).await.unwrap();
    assert_eq!(report.applied, ["core/9000_archive"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_a_development_version_is_refused() {
    let database = Database::empty().await;
    database
        .execute(
            "CREATE SCHEMA migration;
             CREATE TABLE migration.seaql_migrations (version text PRIMARY KEY, applied_at bigint);
             INSERT INTO migration.seaql_migrations VALUES ('core/0001_baseline', 0)",
        )
        .await;
    let refused = migrate(database.admin(), None).await.unwrap_err();
    assert!(matches!(refused, Error::Version(Status::Incompatible)), "{refused}");
    database
        .execute("DELETE FROM migration.seaql_migrations;
             INSERT INTO migration.seaql_migrations VALUES ('m0001_foundation', 0), ('m0002_auth', 0)")
        .await;
    let refused = migrate(database.admin(), None).await.unwrap_err();
    assert!(matches!(refused, Error::Version(Status::Incompatible)), "{refused}");
    let url = database.url("postgres");
    let output = tokio::task::spawn_blocking(move || {
        process::run(tenantry().arg("migrate").env("MIGRATION_DATABASE_URL", url))
    });
    let output = output.await.unwrap();
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""));
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    assert!(output.stderr.contains(INCOMPATIBLE), "{}", output.stderr);
    assert!(!database.value::<bool>("SELECT to_regnamespace('app') IS NOT NULL").await);
}

#[test]
fn unknown_migrations_are_distinguished_from_missing_ones() {
    let all: Vec<String> = STEPS.iter().map(|step| step.name.to_owned()).collect();
    assert_eq!(status(&all), Status::Current);
    assert_eq!(status(&all[..all.len() - 1]), Status::Behind(1));
    assert_eq!(status(&[all, vec!["app/9999".to_owned()]].concat()), Status::Ahead(1));
    assert_eq!(status(&["m0001_foundation".to_owned()]), Status::Incompatible);
}

#[tokio::test]
async fn the_roles_are_created_with_minimal_privileges() {
    let database = Database::create().await;
    let connection = database.connect_admin().await;
    let roles: Vec<(String, bool, bool, bool)> = connection
        .query(
            "SELECT rolname::text, rolcanlogin, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication, rolinherit
         FROM pg_roles WHERE rolname LIKE 'tenantry\\_%' ORDER BY 1",
            &[],
        )
        .await
    .unwrap();
    assert_eq!(
        roles,
        [
            ("tenantry_app".to_owned(), true, false, false),
            ("tenantry_owner".to_owned(), false, false, true),
            ("tenantry_system".to_owned(), true, false, false),
        ]
    );
}

/// Uses a separate PostgreSQL, because roles belong to the whole cluster and other tests use these.
#[test]
fn a_role_that_could_bypass_the_policies_is_rejected() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("tenantry-role-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let options = Options { folder: folder.path().join("postgres"), throwaway: true };
    let server = Embedded::start(&options).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let admin: ConnectOptions = server.admin_url().parse().unwrap();
        migrate(admin.clone(), None).await.unwrap();
        let connection = Client::connect(&admin).await.unwrap();
        for (role, power) in [
            ("tenantry_app", "SUPERUSER"),
            ("tenantry_app", "BYPASSRLS"),
            ("tenantry_app", "CREATEROLE"),
            ("tenantry_app", "CREATEDB"),
            ("tenantry_owner", "BYPASSRLS"),
            ("tenantry_system", "BYPASSRLS"),
        ] {
            let alter = |word: String| format!("ALTER ROLE {role} {word}");
            connection.batch(&alter(power.to_owned())).await.unwrap();
            let refused = migrate(admin.clone(), None).await.unwrap_err().to_string();
            assert!(refused.contains(role) && refused.contains("ALTER ROLE"), "{power}: {refused}");
            connection.batch(&alter(format!("NO{power}"))).await.unwrap();
        }
        migrate(admin, None).await.unwrap();
    });
}

#[tokio::test]
async fn a_plain_owner_of_the_database_can_migrate() {
    let database = Database::empty().await;
    let name = &database.name;
    database
        .execute(&format!(
            "CREATE ROLE migrator_{name} LOGIN CREATEROLE; ALTER DATABASE {name} OWNER TO migrator_{name};
             GRANT tenantry_owner TO migrator_{name}"
        ))
        .await;
    // The roles are there, so it changes none of them.
    let report =
        migrate(database.admin().with("user", format!("migrator_{name}")), None).await.unwrap();
    assert_eq!(report.applied.len(), STEPS.len());
}

#[tokio::test]
async fn rows_record_when_they_changed() {
    let database = Database::create().await;
    let changed = "UPDATE app.projects SET updated_at = '2000-01-01', name = name";
    database.connect_admin().await.batch(changed).await.unwrap();
    let stale: i64 = database
        .value("SELECT count(*) FROM app.projects WHERE updated_at < now() - interval '1 minute'")
        .await;
    assert_eq!(stale, 0);
    let untouched: Vec<String> = database
        .value(
            "SELECT array_agg(c.oid::regclass::text ORDER BY c.oid::regclass::text) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname IN ('app', 'auth', 'billing', 'audit') AND c.relkind IN ('r', 'p')
               AND NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'touch_updated_at')",
        )
        .await;
    assert_eq!(
        untouched,
        [
            "app.directory_changes",
            "app.organization_lookup",
            "app.pending_changes",
            "audit.audit_logs",
            "auth.user_changes"
        ],
        "only copies, and tables that are never updated, lack the trigger"
    );
}

#[tokio::test]
async fn a_function_is_replaced_when_its_text_has_changed() {
    let database = Database::create().await;
    let before = database.fingerprint().await;
    database
        .execute(
            "DROP FUNCTION auth.enter_organization;
             UPDATE migration.functions SET digest = '' WHERE name = 'auth.enter_organization'",
        )
        .await;
    let report = migrate(database.admin(), None).await.unwrap();
    assert_eq!(report.functions, ["auth.enter_organization"]);
    assert_eq!(database.fingerprint().await, before);
}
