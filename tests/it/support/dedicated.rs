//! Fixtures for dedicated databases beside a test's database: cloned from a template, with
//! organizations placed in them directly.

use std::sync::OnceLock;

use migration::dedicated;
use pg::{Client, ConnectOptions};
use uuid::Uuid;

use super::database::{Database, tenant_tables};

const TEMPLATE: &str = "template_dedicated";

static TEMPLATE_CREATED: OnceLock<()> = OnceLock::new();

/// A dedicated database in the same PostgreSQL.
#[derive(Clone, Debug)]
pub struct DedicatedDatabase {
    /// Its name in the control database.
    pub name: String,
    pub database: Database,
}

impl DedicatedDatabase {
    /// Returns the name and the app's connection options, as servers are configured.
    pub fn options(&self) -> (String, ConnectOptions) {
        (self.name.clone(), self.database.app())
    }

    /// Returns an entry of `DATABASES` (as `tenantry_app`) or of `MIGRATION_DATABASES` (as
    /// `postgres`).
    pub fn setting(&self, role: &str) -> String {
        format!("{}={}", self.name, self.database.url(role))
    }
}

impl Database {
    /// Creates another database, migrated and dedicated as `name`, with this database's plans and
    /// without organizations.
    pub async fn dedicated(&self, name: &str) -> DedicatedDatabase {
        let admin = self.maintenance();
        tokio::task::spawn_blocking(|| TEMPLATE_CREATED.get_or_init(|| make_template(admin)))
            .await
            .unwrap();
        let database = Self::cloned(TEMPLATE).await;
        dedicate(&mut self.connect_admin().await, &mut database.connect_admin().await, name).await;
        DedicatedDatabase { name: name.to_owned(), database }
    }

    /// Moves an organization from the shared tables to a dedicated database, as a completed move
    /// leaves it: known to both, without pending changes.
    pub async fn move_to(&self, organization: Uuid, there: &DedicatedDatabase) {
        let mut control = self.connect_admin().await;
        move_organization(
            &mut control,
            &mut there.database.connect_admin().await,
            &there.name,
            organization,
        )
        .await;
    }
}

/// Uses a separate thread and runtime, because the runtime of the first test ends before others.
fn make_template(admin: ConnectOptions) {
    std::thread::spawn(move || {
        tokio::runtime::Runtime::new().unwrap().block_on(create_migrated(&admin, TEMPLATE));
    })
    .join()
    .unwrap();
}

/// Creates a migrated database without organizations.
pub(super) async fn create_migrated(admin: &ConnectOptions, name: &str) {
    let connection = Client::connect(admin).await.unwrap();
    connection.batch(&format!("CREATE DATABASE {name}")).await.unwrap();
    migration::migrate(admin.clone().with("dbname", name), None).await.unwrap();
}

/// Dedicates a migrated database, with the plans of the control database. Both connections belong
/// to the superuser.
pub(super) async fn dedicate(control: &mut Client, there: &mut Client, name: &str) {
    dedicated::dedicate(there, name).await.unwrap();
    dedicated::copy_catalogue(control, there).await.unwrap();
}

/// Moves the rows of an organization. Both connections belong to the superuser.
pub async fn move_organization(
    control: &mut Client,
    there: &mut Client,
    name: &str,
    organization: Uuid,
) {
    let from = control.begin().await.unwrap();
    let to = there.begin().await.unwrap();
    let at_rest = "SET LOCAL app.replicating = 'on'; SET LOCAL session_replication_role = replica";
    from.batch(at_rest).await.unwrap();
    to.batch(at_rest).await.unwrap();

    for user in users(&from, organization).await {
        let copy: serde_json::Value =
            from.query_one("SELECT auth.read_user($1)", &[&user]).await.unwrap();
        to.execute("SELECT auth.copy_user($1)", &[&copy]).await.unwrap();
    }
    let slugs = ("app.organization_slugs", "organization_id");
    let tables = tenant_tables().iter().map(|table| (&*table.name, table.owner_column()));
    // Copying users has reset the setting.
    to.batch("SET LOCAL app.replicating = 'on'").await.unwrap();
    for (table, owner) in std::iter::once(slugs).chain(tables) {
        copy_rows(&from, &to, (table, owner), organization).await;
    }
    for table in tenant_tables().iter().filter(|table| !table.mirrored) {
        let sql = format!("DELETE FROM {} WHERE {} = $1", table.name, table.owner_column());
        from.execute(&sql, &[&organization]).await.unwrap();
    }
    set_placement(&to, organization, "shared").await;
    set_placement(&from, organization, &format!("database:{name}")).await;
    for changed in [&to, &from] {
        changed.execute("SELECT app.refresh_lookup($1)", &[&organization]).await.unwrap();
    }
    to.commit().await.unwrap();
    from.commit().await.unwrap();
}

/// Returns every user to whom the organization's rows refer.
async fn users(connection: &Client, organization: Uuid) -> Vec<Uuid> {
    let columns: Vec<(String, String)> = connection
        .query(
            "SELECT c.conrelid::regclass::text, a.attname::text
         FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
         WHERE c.contype = 'f' AND c.confrelid = 'auth.users'::regclass AND c.conrelid::regclass::text IN (SELECT name FROM migration.tenant_tables)",
            &[],
        )
        .await
    .unwrap();
    assert!(columns.len() >= 4, "{columns:?}");
    let columns: Vec<_> = columns
        .iter()
        .map(|(table, column)| {
            format!(
                "SELECT {column} FROM {table} WHERE organization_id = $1 AND {column} IS NOT NULL"
            )
        })
        .collect();
    connection.query(&columns.join(" UNION "), &[&organization]).await.unwrap()
}

async fn copy_rows(from: &Client, to: &Client, (table, owner): (&str, &str), organization: Uuid) {
    let sql =
        format!("SELECT coalesce(jsonb_agg(t), '[]')::text FROM {table} t WHERE {owner} = $1");
    let rows: String = from.query_one(&sql, &[&organization]).await.unwrap();
    let sql = format!(
        "INSERT INTO {table} SELECT * FROM jsonb_populate_recordset(NULL::{table}, $1::jsonb)"
    );
    to.execute(&sql, &[&rows]).await.unwrap();
}

async fn set_placement(connection: &Client, organization: Uuid, home: &str) {
    connection
        .execute(
            "INSERT INTO app.placements (organization_id, placement, generation, moved_at) VALUES ($1, $2, 1, now())
         ON CONFLICT (organization_id) DO UPDATE SET placement = excluded.placement, generation = 1, version = NULL",
            &[&organization, &home],
        )
        .await
    .unwrap();
}
