//! Where the demo's organizations live: in the shared tables, or (with `TENANTRY_TEST_PLACEMENT`) elsewhere, so that any test can be
//! run in any placement.

use migration::placement::{SCHEMA_VERSION, TABLES, create, schema_of};
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

/// Gives an organization that nobody uses a schema of its own. The connection is the superuser's.
pub async fn house(connection: &mut PgConnection, organization: Uuid) {
    let schema = schema_of(organization);
    connection
        .execute("BEGIN; SET LOCAL ROLE tenantry_owner; SET LOCAL search_path = pg_catalog; SET LOCAL app.copying = 'on'")
        .await
        .unwrap();
    create(connection, organization).await.unwrap();
    connection.execute("RESET ROLE").await.unwrap();
    for table in &TABLES {
        let (own, owner) = (table.in_schema(&schema), table.owner_column());
        let rows = format!("FROM {} WHERE {owner} = '{organization}'", table.name);
        connection
            .execute(AssertSqlSafe(format!("INSERT INTO {own} SELECT * {rows}")))
            .await
            .unwrap();
        if !table.mirrored {
            connection.execute(AssertSqlSafe(format!("DELETE {rows}"))).await.unwrap();
        }
    }
    sqlx::query("INSERT INTO app.placements (organization_id, home, version, moved_at) VALUES ($1, 'schema', $2, now())")
        .bind(organization)
        .bind(SCHEMA_VERSION)
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
