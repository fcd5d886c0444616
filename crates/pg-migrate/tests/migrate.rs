//! A migration of a database. Each test has a separate PostgreSQL, because roles belong to the
//! whole server.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{fs, os::unix::fs::PermissionsExt};

use embedded_postgres::{Embedded, Options};
use pg::{Client, ConnectOptions};
use pg_migrate::{Database, Error, Migration, Roles};
use tempfile::TempDir;

static SHOP: Database = Database {
    lock: 1,
    schemas: &["shop"],
    roles: Roles {
        owner: "shop_owner",
        logins: &["shop_web", "shop_jobs"],
        settings: &[("statement_timeout", "5s")],
        parameter: "backtrace_functions",
    },
};

const ITEMS: &str = "CREATE SCHEMA shop; CREATE TABLE shop.items (id bigint)";
const COUNT: &str = "CREATE OR REPLACE FUNCTION shop.count() RETURNS bigint LANGUAGE sql
    RETURN (SELECT count(*) FROM shop.items)";

struct Server {
    server: Embedded,
    _folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("pg-migrate-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let options = Options { folder: folder.path().join("postgres"), throwaway: true };
        Self { server: Embedded::start(&options).unwrap(), _folder: folder }
    }

    fn options(&self, role: &str) -> ConnectOptions {
        self.server.url(role, "postgres").parse().unwrap()
    }

    async fn admin(&self) -> Client {
        Client::connect(&self.options("postgres")).await.unwrap()
    }
}

/// Applies the step with the table, if it is missing, and this function. Returns the steps that the
/// database had, and the functions that were applied.
async fn migrate(
    options: &ConnectOptions,
    function: &str,
) -> Result<(Vec<String>, Vec<String>), Error> {
    let mut migration = Migration::begin(options, &SHOP, || ()).await?;
    let known = migration.applied().await?;
    migration.prepare(&[("shop_web", "secret")]).await?;
    if known.is_empty() {
        migration.apply("0001_items", ITEMS).await?;
    }
    let (names, texts) = (["count".to_owned()], [function.to_owned()]);
    let functions = migration.apply_functions(&names, &texts).await?;
    migration.end().await;
    Ok((known, functions))
}

#[tokio::test]
async fn steps_are_applied_once_and_functions_when_their_text_has_changed() {
    let server = Server::start();
    let options = server.options("postgres");
    let count = vec!["count".to_owned()];
    assert_eq!(migrate(&options, COUNT).await.unwrap(), (vec![], count.clone()));
    let steps = vec!["0001_items".to_owned()];
    assert_eq!(migrate(&options, COUNT).await.unwrap(), (steps.clone(), vec![]));
    let changed = COUNT.replace("count(*)", "count(id)");
    assert_eq!(migrate(&options, &changed).await.unwrap(), (steps.clone(), count));
    let owners = "SELECT array_agg(DISTINCT relowner::regrole::text) FROM pg_class
        WHERE relnamespace IN ('shop'::regnamespace, 'migration'::regnamespace)";
    let owners: Vec<String> = server.admin().await.query_one(owners, &[]).await.unwrap();
    assert_eq!(owners, ["shop_owner"]);

    let mut migration = Migration::begin(&options, &SHOP, || ()).await.unwrap();
    migration.prepare(&[]).await.unwrap();
    let failing = "CREATE TABLE shop.half (); SELECT 1 / 0";
    migration.apply("0002_half", failing).await.unwrap_err();
    assert_eq!(migration.applied().await.unwrap(), steps);
    migration.apply("0002_half", "CREATE TABLE shop.half ()").await.unwrap();
}

#[tokio::test]
async fn logins_have_their_settings_and_no_further_rights() {
    let server = Server::start();
    migrate(&server.options("postgres"), COUNT).await.unwrap();
    let web = Client::connect(&server.options("shop_web")).await.unwrap();
    let timeout: String =
        web.query_one("SELECT current_setting('statement_timeout')", &[]).await.unwrap();
    assert_eq!(timeout, "5s");
    let steps = "SELECT version::text FROM migration.seaql_migrations";
    assert_eq!(web.query_one::<String>(steps, &[]).await.unwrap(), "0001_items");
    for denied in ["SET ROLE shop_owner", "SET ROLE shop_jobs", "SELECT FROM shop.items"] {
        assert!(web.batch(denied).await.unwrap_err().has_code(&["42501"]), "{denied}");
    }
    server.admin().await.batch("ALTER ROLE shop_jobs BYPASSRLS").await.unwrap();
    let refused = migrate(&server.options("postgres"), COUNT).await;
    assert!(
        matches!(&refused, Err(Error::PowerfulRole(role)) if role == "shop_jobs"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_login_learns_which_rights_it_lacks() {
    let server = Server::start();
    server.admin().await.batch("CREATE ROLE deploy LOGIN").await.unwrap();
    let Err(Error::MissingRights { login, statements }) =
        migrate(&server.options("deploy"), COUNT).await
    else {
        panic!("it has no rights");
    };
    assert_eq!((&*login, &*statements), ("deploy", "ALTER ROLE deploy CREATEROLE"));
    let created: i64 = server
        .admin()
        .await
        .query_one("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'shop%'", &[])
        .await
        .unwrap();
    assert_eq!(created, 0);
}

#[tokio::test]
async fn a_schema_of_another_program_is_left_alone() {
    let server = Server::start();
    server.admin().await.batch("CREATE SCHEMA shop").await.unwrap();
    let refused = migrate(&server.options("postgres"), COUNT).await;
    assert!(matches!(&refused, Err(Error::ForeignSchema(name)) if name == "shop"), "{refused:?}");
}

#[tokio::test]
async fn a_second_migration_waits_for_the_first() {
    let server = Server::start();
    let options = server.options("postgres");
    let first = Migration::begin(&options, &SHOP, || ()).await.unwrap();
    let (waits, mut waiting) = tokio::sync::mpsc::channel(1);
    let second = Migration::begin(&options, &SHOP, || waits.try_send(()).unwrap());
    let end = async {
        waiting.recv().await.unwrap();
        first.end().await;
    };
    tokio::join!(second, end).0.unwrap().end().await;
}
