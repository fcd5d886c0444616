//! Dedicated databases: how a migrated database becomes one, and the catalogue of features and
//! plans that it copies.

use pg::Client;

/// Why a database cannot become a dedicated database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused something, or could not be reached.
    #[error("{}", .0.explained())]
    Database(#[from] pg::Error),
    /// It has another name.
    #[error("the database calls itself {0}")]
    OtherName(String),
    /// It has organizations, which no other control database knows.
    #[error("the database has organizations, and is a control database")]
    Control,
}

/// Makes a migrated database the dedicated database `name`, which it may be already. From now on it
/// records the changes that the control database has to copy. The connection acts as the owner.
///
/// # Errors
///
/// When it has another name, or is in use as a control database.
pub async fn dedicate(connection: &mut Client, name: &str) -> Result<(), Error> {
    let transaction = connection.begin().await?;
    let known: Option<String> = transaction.query_one("SELECT app.database_name()", &[]).await?;
    match known {
        Some(known) if known == name => {}
        Some(known) => return Err(Error::OtherName(known)),
        None => {
            let in_use: bool = transaction
                .query_one(
                    "SELECT EXISTS (SELECT FROM app.organizations) OR EXISTS (SELECT FROM app.placements)",
                    &[],
                )
                .await?;
            if in_use {
                return Err(Error::Control);
            }
            transaction.execute("INSERT INTO app.database (name) VALUES ($1)", &[&name]).await?;
        }
    }
    let triggers: Vec<String> = transaction.query(MISSING_TRIGGERS, &[]).await?;
    transaction.batch(&triggers.join(";\n")).await?;
    transaction.commit().await?;
    Ok(())
}

/// The statements that create the triggers which record changes, where they are missing: creating
/// one again would make every writer wait.
const MISSING_TRIGGERS: &str = "SELECT format(
        'CREATE TRIGGER record_directory_change AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW
             WHEN (current_setting(''app.replicating'', true) IS DISTINCT FROM ''on'')
             EXECUTE FUNCTION app.record_directory_change(''%s'')', name, replace(key, ', ', ''', '''))
    FROM migration.tenant_tables
    WHERE mirrored AND NOT EXISTS (
        SELECT FROM pg_trigger WHERE tgrelid = name::regclass AND tgname = 'record_directory_change')";

/// Held in the control database while the catalogue is copied.
const LOCK_CATALOGUE: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('tenantry catalogue', 0))";

/// The tables of the catalogue with their primary keys, referenced tables first.
const CATALOGUE: [(&str, &str); 4] = [
    ("billing.features", "feature"),
    ("billing.plans", "plan"),
    ("billing.plan_prices", "stripe_price_id"),
    ("billing.plan_features", "plan, feature"),
];

/// Copies the catalogue of features and plans from the control database to a dedicated database,
/// and returns whether anything differed. Both connections act as the owner.
///
/// # Errors
///
/// When PostgreSQL refuses, for example to delete a plan that is in use.
pub async fn copy_catalogue(control: &mut Client, dedicated: &mut Client) -> pg::Result<bool> {
    // Concurrent copies wait for each other, so that an older one does not replace a newer one.
    let control = control.begin().await?;
    control.batch(LOCK_CATALOGUE).await?;
    let transaction = dedicated.begin().await?;
    transaction.batch("SET LOCAL app.replicating = 'on'").await?;
    let mut changed = 0;
    // Referenced tables first: rows are deleted in the opposite order.
    let mut tables = Vec::new();
    for (table, key) in CATALOGUE {
        let rows: String = control
            .query_one(&format!("SELECT coalesce(jsonb_agg(t), '[]')::text FROM {table} t"), &[])
            .await?;
        tables.push((table, key, rows));
    }
    for (table, key, rows) in tables.iter().rev() {
        let sql = format!(
            "DELETE FROM {table} WHERE ({key}) NOT IN (SELECT {key} FROM jsonb_populate_recordset(NULL::{table}, $1::jsonb))"
        );
        changed += transaction.execute(&sql, &[rows]).await?;
    }
    for (table, key, rows) in tables {
        if table == "billing.plans" {
            // At no time are there two default plans.
            let sql = "UPDATE billing.plans p SET is_default = false
                FROM jsonb_populate_recordset(NULL::billing.plans, $1::jsonb) n
                WHERE n.plan = p.plan AND p.is_default AND NOT n.is_default";
            transaction.execute(sql, &[&rows]).await?;
        }
        changed += write(&transaction, table, key, &rows).await?;
    }
    transaction.commit().await?;
    control.commit().await?;
    Ok(changed > 0)
}

/// Inserts rows, or updates those with the same key. Returns how many it wrote.
async fn write(connection: &Client, table: &str, key: &str, rows: &str) -> pg::Result<u64> {
    let columns: String = connection
        .query_one(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
             WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped",
            &[&table],
        )
        .await?;
    let excluded = format!("excluded.{}", columns.replace(", ", ", excluded."));
    let sql = format!(
        "INSERT INTO {table} AS t ({columns}) SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, $1::jsonb)
         ON CONFLICT ({key}) DO UPDATE SET ({columns}) = ROW({excluded}) WHERE t IS DISTINCT FROM excluded"
    );
    connection.execute(&sql, &[&rows]).await
}
