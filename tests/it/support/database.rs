//! One PostgreSQL for the whole run, and for each test a clone of a migrated database with the
//! demo's rows.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
};

use embedded_postgres::{Embedded, Options};
use migration::TenantTable;
use pg::{Client, ConnectOptions, FromRow};

use super::{
    dedicated::{self, DedicatedDatabase},
    placement,
};

pub(super) const FOLDER: &str = "tenantry-test-";
const TEMPLATE: &str = "template_tenantry";
const TEMPLATE_EU: &str = "template_eu";

/// The demo's rows: the organizations acme (pro) and globex (free), a user in each role, and
/// projects.
pub(super) const ROWS: &str = concat!(
    include_str!("../../../src/cli/dev/demo.sql"),
    include_str!("../../../src/app/demo.sql")
);

static SERVER: OnceLock<Server> = OnceLock::new();
static TENANT_TABLES: OnceLock<Vec<TenantTable>> = OnceLock::new();
static NEXT: AtomicU32 = AtomicU32::new(0);

struct Server {
    admin: ConnectOptions,
}

/// The tables of organizations, referenced tables first. There is a database.
pub fn tenant_tables() -> &'static [TenantTable] {
    TENANT_TABLES.get().unwrap()
}

/// A test's database.
#[derive(Clone, Debug)]
pub struct Database {
    pub name: String,
    admin: ConnectOptions,
    /// Whether this is a clone of the demo, whose organizations may live elsewhere.
    is_demo: bool,
}

impl Database {
    /// Creates a clone of the migrated template.
    pub async fn create() -> Self {
        let database = Self { is_demo: true, ..Self::cloned(TEMPLATE).await };
        if !placement::organizations_in_eu().is_empty() {
            let eu = database.eu().unwrap().database;
            let connection = Client::connect(&database.admin).await.unwrap();
            eu.make(&connection, &format!("TEMPLATE {TEMPLATE_EU} STRATEGY file_copy")).await;
            eu.open_to_owner().await;
            placement::point_to_eu(&database.connect_admin().await, &eu.name).await;
        }
        database
    }

    /// Returns the dedicated database `eu`, if some organizations live there in this run.
    pub fn eu(&self) -> Option<DedicatedDatabase> {
        (self.is_demo && !placement::organizations_in_eu().is_empty()).then(|| DedicatedDatabase {
            name: placement::EU.to_owned(),
            database: self.named_elsewhere(&format!("{}_eu", self.name)),
        })
    }

    /// Creates a clone of another template.
    pub(super) async fn cloned(template: &str) -> Self {
        let database = Self::named(&format!("TEMPLATE {template} STRATEGY file_copy")).await;
        database.open_to_owner().await;
        database
    }

    /// Grants the rights on the database itself, which a clone does not copy.
    async fn open_to_owner(&self) {
        self.execute(&format!(
            "REVOKE TEMPORARY ON DATABASE {0} FROM PUBLIC; GRANT CREATE ON DATABASE {0} TO tenantry_owner",
            self.name
        ))
        .await;
    }

    /// Creates an empty database.
    pub async fn empty() -> Self {
        Self::named("").await
    }

    async fn named(options: &str) -> Self {
        let admin =
            tokio::task::spawn_blocking(|| SERVER.get_or_init(start).admin.clone()).await.unwrap();
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let connection = Client::connect(&admin).await.unwrap();
        let database = Self { name, admin, is_demo: false };
        database.make(&connection, options).await;
        database
    }

    async fn make(&self, connection: &Client, options: &str) {
        let statement = format!("CREATE DATABASE {} {options}", self.name);
        connection.batch(&statement).await.unwrap();
    }

    /// Returns another database name in the same PostgreSQL, whether or not it exists.
    pub fn named_elsewhere(&self, name: &str) -> Self {
        Self { name: name.to_owned(), admin: self.admin.clone(), is_demo: false }
    }

    /// Returns the connection options of the superuser, whom no policy restricts.
    pub fn admin(&self) -> ConnectOptions {
        self.admin.clone().with("dbname", &self.name)
    }

    /// Returns the superuser's connection options for creating databases.
    pub(super) fn maintenance(&self) -> ConnectOptions {
        self.admin.clone()
    }

    /// Returns the app's connection options.
    pub fn app(&self) -> ConnectOptions {
        self.admin().with("user", "tenantry_app")
    }

    /// Returns the directory of PostgreSQL's socket.
    pub fn socket(&self) -> std::path::PathBuf {
        self.admin.host().into()
    }

    /// Returns the URL of the database for a role.
    pub fn url(&self, role: &str) -> String {
        let socket: String = url_encode(self.admin.host());
        format!("postgres://{role}@localhost:5432/{}?host={socket}", self.name)
    }

    pub async fn connect_admin(&self) -> Client {
        Client::connect(&self.admin()).await.unwrap()
    }

    pub async fn connect_app(&self) -> Client {
        Client::connect(&self.app()).await.unwrap()
    }

    pub async fn connect_system(&self) -> Client {
        Client::connect(&self.admin().with("user", "tenantry_system")).await.unwrap()
    }

    /// Runs SQL as the superuser.
    pub async fn execute(&self, sql: &str) {
        let sql = self.everywhere(sql);
        self.connect_admin().await.batch(&sql).await.unwrap();
    }

    /// Like [`value`](Self::value), but reads exactly the tables that the query names, regardless
    /// of placements.
    pub async fn exactly<T: FromRow>(&self, sql: &str) -> T {
        let connection = self.connect_admin().await;
        connection.query_one(sql, &[]).await.unwrap()
    }

    /// Returns the only value of a query as the superuser. Shared tables in the query stand for the
    /// rows of all organizations in any placement.
    pub async fn value<T: FromRow>(&self, sql: &str) -> T {
        self.exactly(&self.everywhere(sql)).await
    }

    fn everywhere(&self, sql: &str) -> String {
        if self.is_demo { placement::everywhere(sql) } else { sql.to_owned() }
    }

    /// Returns a digest of every row of every table: equal before and after means that nothing
    /// changed. The usage, which counts calls, the keys that servers register, and the time of
    /// each identity's last token are left out.
    pub async fn fingerprint(&self) -> Vec<(String, String)> {
        let mut digests = self.digests().await;
        if let Some(eu) = self.eu() {
            digests.extend(eu.database.digests().await);
            // Directory sync may still copy earlier changes.
            digests.retain(|(table, _)| {
                !table.ends_with("_changes") && table != "app.organization_lookup"
            });
        }
        digests
    }

    async fn digests(&self) -> Vec<(String, String)> {
        let connection = self.connect_admin().await;
        let tables: Vec<String> = connection
            .query(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
             WHERE (schemaname IN ('app', 'auth', 'billing', 'audit') OR schemaname LIKE 'org\\_%') AND tablename NOT IN ('usage', 'proof_keys')
             ORDER BY 1",
                &[],
            )
            .await
        .unwrap();
        assert!(tables.len() >= 12, "{tables:?}");
        let mut digests = Vec::new();
        for table in tables {
            // Rows of organizations in other databases are copies here, and directory sync may
            // still update them.
            let tenant_table = tenant_tables().iter().find(|known| known.name == table);
            let here = tenant_table.filter(|_| self.eu().is_some()).map(|table| {
                format!(
                    "WHERE {} NOT IN (SELECT organization_id FROM app.placements WHERE placement LIKE 'database:%')",
                    table.owner_column()
                )
            });
            let row = match table.as_str() {
                "auth.identities" => {
                    "(issuer, subject, user_id, email, not_before, created_at)::text"
                }
                _ => "t::text",
            };
            let sql = format!(
                "SELECT coalesce(md5(string_agg({row}, '|' ORDER BY {row})), '') FROM {table} t {}",
                here.unwrap_or_default()
            );
            let digest = connection.query_one(&sql, &[]).await.unwrap();
            digests.push((table, digest));
        }
        digests
    }
}

/// Values of a row that must be there.
pub trait RowExt {
    fn get<'row, T: pg::FromSql<'row>>(&'row self, column: &str) -> T;
}

impl RowExt for pg::Row {
    fn get<'row, T: pg::FromSql<'row>>(&'row self, column: &str) -> T {
        self.try_get(column).unwrap()
    }
}

fn url_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Starts PostgreSQL on a thread that lives as long as the process, because PostgreSQL ends with
/// the thread that started it.
fn start() -> Server {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        remove_leftovers();
        let folder = tempfile::Builder::new().prefix(FOLDER).tempdir().unwrap();
        open_to_server(folder.path());
        let options = Options { folder: folder.path().join("postgres"), throwaway: true };
        let server = Embedded::start(&options).unwrap();
        let admin: ConnectOptions = server.admin_url().parse().unwrap();
        send.send(admin).unwrap();
        loop {
            thread::park();
        }
    });
    let admin = receive.recv().unwrap();
    let migrating = admin.clone();
    thread::spawn(move || {
        tokio::runtime::Runtime::new().unwrap().block_on(make_template(migrating));
    })
    .join()
    .unwrap();
    Server { admin }
}

/// Removes the directories of earlier runs, because a process cannot remove its own. A directory
/// whose lock is free belongs to a run that has ended.
pub(super) fn remove_leftovers() {
    for entry in std::fs::read_dir(std::env::temp_dir()).unwrap().filter_map(Result::ok) {
        let ended = || {
            let lock = std::fs::File::open(entry.path().join("postgres/lock"));
            lock.is_ok_and(|lock| lock.try_lock().is_ok())
        };
        if entry.file_name().to_string_lossy().starts_with(FOLDER) && ended() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// As root the server runs as another user, who must be able to reach its directory.
pub(super) fn open_to_server(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

async fn make_template(admin: ConnectOptions) {
    let connection = Client::connect(&admin).await.unwrap();
    connection.batch(&format!("CREATE DATABASE {TEMPLATE}")).await.unwrap();
    let template = admin.clone().with("dbname", TEMPLATE);
    migration::migrate(template.clone(), None).await.unwrap();
    let mut connection = Client::connect(&template).await.unwrap();
    TENANT_TABLES.set(TenantTable::list(&connection).await.unwrap()).unwrap();
    connection.batch(ROWS).await.unwrap();
    for organization in placement::organizations_in_schemas() {
        placement::move_to_schema(&connection, organization).await;
    }
    if !placement::organizations_in_eu().is_empty() {
        dedicated::create_migrated(&admin, TEMPLATE_EU).await;
        placement::create_eu_template(&mut connection, admin.with("dbname", TEMPLATE_EU)).await;
    }
    if !placement::all_are_shared() {
        placement::create_everywhere_views(&connection).await;
    }
    connection.close().await;
}
