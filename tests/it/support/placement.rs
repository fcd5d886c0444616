//! The placement of the demo's organizations: the shared tables, or another one with
//! `TENANTRY_TEST_PLACEMENT`, so that any test can run in any placement.

#[path = "../../../benches/load/dedicated_schema.rs"]
mod dedicated_schema;

use migration::placement::schema_of;
use pg::{Client, ConnectOptions};
use uuid::Uuid;

use super::{database::tenant_tables, dedicated};

pub const ACME: &str = "00000000-0000-4000-8000-00000000000a";
pub const GLOBEX: &str = "00000000-0000-4000-8000-00000000000b";

pub const PLACEMENT: &str = "TENANTRY_TEST_PLACEMENT";

/// The dedicated database of such a run, of which each test has a clone.
pub const EU: &str = "eu";

/// Returns the organizations in dedicated schemas in this run.
pub fn organizations_in_schemas() -> Vec<Uuid> {
    placements_of_run().0
}

/// Returns the organizations in the database `eu` in this run.
pub fn organizations_in_eu() -> Vec<Uuid> {
    placements_of_run().1
}

/// Returns whether all organizations are in the shared tables in this run.
pub fn all_are_shared() -> bool {
    placements_of_run() == (Vec::new(), Vec::new())
}

fn placements_of_run() -> (Vec<Uuid>, Vec<Uuid>) {
    let placement = std::env::var(PLACEMENT).unwrap_or_default();
    let (organizations_in_schemas, organizations_in_eu): (&[&str], &[&str]) =
        match placement.as_str() {
            "" | "shared" => (&[], &[]),
            "schema" => (&[ACME, GLOBEX], &[]),
            "mixed" => (&[ACME], &[]),
            "database" => (&[], &[ACME, GLOBEX]),
            // Organizations that tests create are in the shared tables.
            "all" => (&[GLOBEX], &[ACME]),
            other => panic!("{PLACEMENT}={other}"),
        };
    let ids = |ids: &[&str]| ids.iter().map(|id| id.parse().unwrap()).collect();
    (ids(organizations_in_schemas), ids(organizations_in_eu))
}

/// Moves an organization to a dedicated schema. The connection belongs to the superuser.
pub async fn move_to_schema(connection: &Client, organization: Uuid) {
    dedicated_schema::move_to_schema(connection, organization).await.unwrap();
}

/// Moves an organization back to the shared tables, and leaves its schema as it was. The connection
/// belongs to the superuser.
pub async fn move_to_shared_tables(connection: &Client, organization: Uuid) {
    let schema = schema_of(organization);
    connection.batch("BEGIN; SET LOCAL app.replicating = 'on'").await.unwrap();
    dedicated_schema::lock_placement(connection, organization).await.unwrap();
    for table in tenant_tables().iter().filter(|table| !table.mirrored) {
        let sql = format!("INSERT INTO {} SELECT * FROM {}", table.name, table.in_schema(&schema));
        connection.batch(&sql).await.unwrap();
    }
    connection
        .execute(
            "UPDATE app.placements SET placement = 'shared' WHERE organization_id = $1",
            &[&organization],
        )
        .await
        .unwrap();
    connection.batch("COMMIT").await.unwrap();
}

/// Creates the template of the database `eu`, moves this run's organizations there, and makes its
/// tables available in the control database as `eu.…`. The connection belongs to the superuser.
pub async fn create_eu_template(control: &mut Client, eu: ConnectOptions) {
    let mut there = Client::connect(&eu).await.unwrap();
    dedicated::dedicate(control, &mut there, EU).await;
    for organization in organizations_in_eu() {
        dedicated::move_organization(control, &mut there, EU, organization).await;
    }
    there.close().await;
    let socket = eu.host();
    let server = format!(
        "CREATE SCHEMA eu;
         CREATE EXTENSION postgres_fdw SCHEMA eu;
         CREATE SERVER eu FOREIGN DATA WRAPPER postgres_fdw
             OPTIONS (host '{socket}', port '{}', dbname '{}');
         CREATE USER MAPPING FOR CURRENT_USER SERVER eu OPTIONS (user '{}');",
        eu.get("port").unwrap(),
        eu.get("dbname").unwrap(),
        eu.user()
    );
    let import = ["app", "auth", "billing", "audit"].map(|schema| {
        let others = [
            "auth.users",
            "auth.identities",
            "billing.features",
            "billing.plans",
            "billing.plan_prices",
            "billing.plan_features",
        ];
        let tables = tenant_tables().iter().map(|table| &*table.name).chain(others);
        let names = tables.filter_map(|name| name.strip_prefix(&format!("{schema}.")));
        format!(
            "IMPORT FOREIGN SCHEMA {schema} LIMIT TO ({}) FROM SERVER eu INTO eu OPTIONS (import_default 'true');",
            names.collect::<Vec<_>>().join(", ")
        )
    });
    control.batch(&(server + &import.concat())).await.unwrap();
    control.batch(include_str!("catalogue.sql")).await.unwrap();
}

/// Points the tables `eu.…` of a clone to its own `eu`.
pub async fn point_to_eu(control: &Client, eu: &str) {
    let sql = format!("ALTER SERVER eu OPTIONS (SET dbname '{eu}')");
    control.batch(&sql).await.unwrap();
}

/// Creates the views that show all rows in any placement. The connection belongs to the superuser.
pub async fn create_everywhere_views(connection: &Client) {
    connection.batch(include_str!("everywhere.sql")).await.unwrap();
    for table in tenant_tables() {
        let (shared, name) = (&table.name, table.base_name());
        let (key, owner) = (&table.key, table.owner_column());
        let own = organizations_in_schemas().into_iter().map(|organization| {
            let own = table.in_schema(&schema_of(organization));
            format!("UNION ALL SELECT * FROM {own}")
        });
        let in_eu = (!organizations_in_eu().is_empty())
            .then(|| format!("UNION ALL SELECT * FROM eu.{name}"));
        let sql = format!(
            "CREATE VIEW everywhere.{name} AS SELECT * FROM {shared}
                 WHERE {owner} NOT IN (SELECT organization_id FROM app.placements WHERE placement <> 'shared') {};
             CREATE TRIGGER route INSTEAD OF INSERT OR UPDATE OR DELETE ON everywhere.{name}
                 FOR EACH ROW EXECUTE FUNCTION everywhere.route('{shared}', '{key}', '{owner}', '{}')",
            own.chain(in_eu).collect::<Vec<_>>().join(" "),
            table.mirrored
        );
        connection.batch(&sql).await.unwrap();
    }
}

/// Rewrites a statement about the shared tables, so that it covers every placement.
pub fn everywhere(sql: &str) -> String {
    let structural = ["ALTER ", "CREATE ", "DROP ", "LOCK ", "GRANT ", "REVOKE ", "ANALYZE "];
    if all_are_shared() || structural.iter().any(|word| sql.contains(word)) {
        return sql.to_owned();
    }
    tenant_tables().iter().fold(sql.to_owned(), |sql, table| {
        sql.replace(&table.name, &format!("everywhere.{}", table.base_name()))
    })
}
