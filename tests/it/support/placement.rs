//! Where the demo's organizations live: in the shared tables, or (with `TENANTRY_TEST_PLACEMENT`) elsewhere, so that any test can be
//! run in any placement.

#[path = "../../../benches/load/house.rs"]
mod house;

use migration::placement::{TABLES, schema_of};
use sqlx::{AssertSqlSafe, Executor, PgConnection, types::Uuid};

pub const ACME: &str = "00000000-0000-4000-8000-00000000000a";
pub const GLOBEX: &str = "00000000-0000-4000-8000-00000000000b";

pub const PLACEMENT: &str = "TENANTRY_TEST_PLACEMENT";

/// The organizations that live in schemas of their own in this run.
pub fn housed() -> Vec<Uuid> {
    let placement = std::env::var(PLACEMENT).unwrap_or_default();
    let organizations: &[&str] = match placement.as_str() {
        "" | "shared" => &[],
        "schema" => &[ACME, GLOBEX],
        "mixed" => &[ACME],
        other => panic!("{PLACEMENT}={other}"),
    };
    organizations.iter().map(|id| id.parse().unwrap()).collect()
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

/// Makes the views in which tests meet all rows, wherever they live. The connection is the superuser's.
pub async fn show_everywhere(connection: &mut PgConnection) {
    connection.execute(include_str!("everywhere.sql")).await.unwrap();
    for table in &TABLES {
        let (shared, name) = (table.name, table.base_name());
        let (key, owner) = (table.key, table.owner_column());
        let own = housed().into_iter().map(|organization| {
            let own = table.in_schema(&schema_of(organization));
            format!("UNION ALL SELECT * FROM {own}")
        });
        let sql = format!(
            "CREATE VIEW everywhere.{name} AS SELECT * FROM {shared}
                 WHERE {owner} NOT IN (SELECT organization_id FROM app.placements WHERE home = 'schema') {};
             CREATE TRIGGER route INSTEAD OF INSERT OR UPDATE OR DELETE ON everywhere.{name}
                 FOR EACH ROW EXECUTE FUNCTION everywhere.route('{shared}', '{key}', '{owner}')",
            own.collect::<Vec<_>>().join(" ")
        );
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
    }
}

/// The statement of a test, of which the author thought that everybody lives in the shared tables.
pub fn everywhere(sql: &str) -> String {
    let structural = ["ALTER ", "CREATE ", "DROP ", "LOCK ", "GRANT ", "REVOKE ", "ANALYZE "];
    if housed().is_empty() || structural.iter().any(|word| sql.contains(word)) {
        return sql.to_owned();
    }
    TABLES.iter().fold(sql.to_owned(), |sql, table| {
        sql.replace(table.name, &format!("everywhere.{}", table.base_name()))
    })
}
