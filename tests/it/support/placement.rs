//! Where the demo's organizations live: in the shared tables, or (with `TENANTRY_TEST_PLACEMENT`)
//! elsewhere, so that any test can be run in any placement.

#[path = "../../../benches/load/house.rs"]
mod house;

use migration::placement::{TABLES, schema_of};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgConnectOptions, types::Uuid,
};

use super::dedicated;

pub const ACME: &str = "00000000-0000-4000-8000-00000000000a";
pub const GLOBEX: &str = "00000000-0000-4000-8000-00000000000b";

pub const PLACEMENT: &str = "TENANTRY_TEST_PLACEMENT";

/// The database of organizations' own in such a run, of which each test has a clone.
pub const EU: &str = "eu";

/// The organizations that live in schemas of their own in this run.
pub fn housed() -> Vec<Uuid> {
    in_this_run().0
}

/// The organizations that live in the database `eu` in this run.
pub fn settled() -> Vec<Uuid> {
    in_this_run().1
}

/// Nobody lives elsewhere in this run.
pub fn all_are_shared() -> bool {
    in_this_run() == (Vec::new(), Vec::new())
}

fn in_this_run() -> (Vec<Uuid>, Vec<Uuid>) {
    let placement = std::env::var(PLACEMENT).unwrap_or_default();
    let (housed, settled): (&[&str], &[&str]) = match placement.as_str() {
        "" | "shared" => (&[], &[]),
        "schema" => (&[ACME, GLOBEX], &[]),
        "mixed" => (&[ACME], &[]),
        "database" => (&[], &[ACME, GLOBEX]),
        // Who is founded by tests is in the shared tables.
        "all" => (&[GLOBEX], &[ACME]),
        other => panic!("{PLACEMENT}={other}"),
    };
    let ids = |ids: &[&str]| ids.iter().map(|id| id.parse().unwrap()).collect();
    (ids(housed), ids(settled))
}

/// Gives an organization a schema of its own. The connection is the superuser's.
pub async fn house(connection: &mut PgConnection, organization: Uuid) {
    house::house(connection, organization).await.unwrap();
}

/// Brings it back, and leaves its schema as it was. The connection is the superuser's.
pub async fn unhouse(connection: &mut PgConnection, organization: Uuid) {
    let schema = schema_of(organization);
    connection.execute("BEGIN; SET LOCAL app.copying = 'on'").await.unwrap();
    house::alone(connection, organization).await.unwrap();
    for table in TABLES.iter().filter(|table| !table.mirrored) {
        let sql = format!("INSERT INTO {} SELECT * FROM {}", table.name, table.in_schema(&schema));
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    sqlx::query("UPDATE app.placements SET home = 'shared' WHERE organization_id = $1")
        .bind(organization)
        .execute(&mut *connection)
        .await
        .unwrap();
    connection.execute("COMMIT").await.unwrap();
}

/// Makes the template of the database `eu`, puts there who lives there in this run, and makes its
/// tables known to the control database as `eu.…`. The connection is the superuser's.
pub async fn settle(control: &mut PgConnection, eu: PgConnectOptions) {
    let mut there = PgConnection::connect_with(&eu).await.unwrap();
    dedicated::open(control, &mut there, EU).await;
    for organization in settled() {
        dedicated::settle(control, &mut there, EU, organization).await;
    }
    there.close().await.unwrap();
    let socket = eu.get_host();
    let server = format!(
        "CREATE SCHEMA eu;
         CREATE EXTENSION postgres_fdw SCHEMA eu;
         CREATE SERVER eu FOREIGN DATA WRAPPER postgres_fdw
             OPTIONS (host '{socket}', port '{}', dbname '{}');
         CREATE USER MAPPING FOR CURRENT_USER SERVER eu OPTIONS (user '{}');",
        eu.get_port(),
        eu.get_database().unwrap(),
        eu.get_username()
    );
    let import = ["app", "auth", "billing", "audit"].map(|schema| {
        let others = ["auth.users", "auth.identities", "billing.plans", "billing.plan_features"];
        let tables = TABLES.iter().map(|table| table.name).chain(others);
        let names = tables.filter_map(|name| name.strip_prefix(&format!("{schema}.")));
        format!(
            "IMPORT FOREIGN SCHEMA {schema} LIMIT TO ({}) FROM SERVER eu INTO eu OPTIONS (import_default 'true');",
            names.collect::<Vec<_>>().join(", ")
        )
    });
    control.execute(AssertSqlSafe(server + &import.concat())).await.unwrap();
    control.execute(include_str!("catalogue.sql")).await.unwrap();
}

/// Leads the tables `eu.…` of a clone to its own `eu`.
pub async fn lead(control: &mut PgConnection, eu: &str) {
    let sql = format!("ALTER SERVER eu OPTIONS (SET dbname '{eu}')");
    control.execute(AssertSqlSafe(sql)).await.unwrap();
}

/// Makes the views in which tests meet all rows, wherever they live. The connection is the
/// superuser's.
pub async fn show_everywhere(connection: &mut PgConnection) {
    connection.execute(include_str!("everywhere.sql")).await.unwrap();
    for table in &TABLES {
        let (shared, name) = (table.name, table.base_name());
        let (key, owner) = (table.key, table.owner_column());
        let own = housed().into_iter().map(|organization| {
            let own = table.in_schema(&schema_of(organization));
            format!("UNION ALL SELECT * FROM {own}")
        });
        let abroad = (!settled().is_empty()).then(|| format!("UNION ALL SELECT * FROM eu.{name}"));
        let sql = format!(
            "CREATE VIEW everywhere.{name} AS SELECT * FROM {shared}
                 WHERE {owner} NOT IN (SELECT organization_id FROM app.placements WHERE home <> 'shared') {};
             CREATE TRIGGER route INSTEAD OF INSERT OR UPDATE OR DELETE ON everywhere.{name}
                 FOR EACH ROW EXECUTE FUNCTION everywhere.route('{shared}', '{key}', '{owner}', '{}')",
            own.chain(abroad).collect::<Vec<_>>().join(" "),
            table.mirrored
        );
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
    }
}

/// The statement of a test, of which the author thought that everybody lives in the shared tables.
pub fn everywhere(sql: &str) -> String {
    let structural = ["ALTER ", "CREATE ", "DROP ", "LOCK ", "GRANT ", "REVOKE ", "ANALYZE "];
    if all_are_shared() || structural.iter().any(|word| sql.contains(word)) {
        return sql.to_owned();
    }
    TABLES.iter().fold(sql.to_owned(), |sql, table| {
        sql.replace(table.name, &format!("everywhere.{}", table.base_name()))
    })
}
