//! Databases of organizations' own: what makes one of a migrated database, and what it has copies
//! of.
#![expect(clippy::disallowed_types, reason = "whole databases are made ready here")]

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::placement::TABLES;

/// Why a database cannot be one of organizations' own.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused something, or could not be reached.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The name belongs to another one.
    #[error("the database calls itself {0}")]
    OtherName(String),
    /// Its organizations would be lost to those who look for them.
    #[error("the database has organizations, and is a control database")]
    Control,
}

/// Makes a migrated database one of organizations' own, known as `name`; it may be that already.
/// From now on it tells what the control database is to know. The connection acts as the owner.
///
/// # Errors
///
/// When it has another name, or is in use as a control database.
pub async fn dedicate(connection: &mut PgConnection, name: &str) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    let known: Option<String> =
        sqlx::query_scalar("SELECT app.database_name()").fetch_one(&mut *transaction).await?;
    match known {
        Some(known) if known == name => {}
        Some(known) => return Err(Error::OtherName(known)),
        None => {
            let in_use: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM app.organizations) OR EXISTS (SELECT FROM app.placements)",
            )
            .fetch_one(&mut *transaction)
            .await?;
            if in_use {
                return Err(Error::Control);
            }
            sqlx::query("INSERT INTO app.database (name) VALUES ($1)")
                .bind(name)
                .execute(&mut *transaction)
                .await?;
        }
    }
    for table in TABLES.iter().filter(|table| table.mirrored) {
        let key = table.key.split(", ").map(|column| format!("'{column}'")).collect::<Vec<_>>();
        let there: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = $1::regclass AND tgname = 'note_directory_change')",
        )
        .bind(table.name)
        .fetch_one(&mut *transaction)
        .await?;
        if there {
            // Making it again would make everybody wait who writes.
            continue;
        }
        let sql = format!(
            "CREATE TRIGGER note_directory_change AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW
                 WHEN (current_setting('app.copying', true) IS DISTINCT FROM 'on')
                 EXECUTE FUNCTION app.note_directory_change({})",
            table.name,
            key.join(", ")
        );
        transaction.execute(AssertSqlSafe(sql)).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Held by whoever brings the catalogue, in the control database.
const LOCK_CATALOGUE: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('tenantry catalogue', 0))";

/// Brings the catalogue of plans of the control database to one of organizations' own; answers
/// whether anything was to be brought. Both connections act as the owner.
///
/// # Errors
///
/// When PostgreSQL refuses, for example to let go of a plan that is in use.
pub async fn bring_catalogue(
    control: &mut PgConnection,
    dedicated: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    // Whoever else brings it waits, here and there, and does not bring what is older.
    let mut control = control.begin().await?;
    control.execute(LOCK_CATALOGUE).await?;
    let mut transaction = dedicated.begin().await?;
    transaction.execute("SET LOCAL app.copying = 'on'").await?;
    let mut brought = 0;
    let tables = [("billing.plans", "plan"), ("billing.plan_features", "plan, feature")];
    for (table, key) in tables {
        let rows: String = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT coalesce(jsonb_agg(t), '[]')::text FROM {table} t"
        )))
        .fetch_one(&mut *control)
        .await?;
        if table == "billing.plans" {
            // What only one plan can have goes from one to another: first nobody has it.
            let sql = "UPDATE billing.plans p SET stripe_price_id = NULL, is_default = false, position = -1 - p.position
                FROM jsonb_populate_recordset(NULL::billing.plans, $1::jsonb) n
                WHERE n.plan = p.plan AND (n.stripe_price_id, n.is_default, n.position) IS DISTINCT FROM (p.stripe_price_id, p.is_default, p.position)";
            sqlx::query(sql).bind(&rows).execute(&mut *transaction).await?;
        }
        let columns: String = sqlx::query_scalar(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
             WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped",
        )
        .bind(table)
        .fetch_one(&mut *transaction)
        .await?;
        let excluded = format!("excluded.{}", columns.replace(", ", ", excluded."));
        let statements = [
            format!(
                "DELETE FROM {table} WHERE ({key}) NOT IN (SELECT {key} FROM jsonb_populate_recordset(NULL::{table}, $1::jsonb))"
            ),
            format!(
                "INSERT INTO {table} AS t ({columns}) SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, $1::jsonb)
                 ON CONFLICT ({key}) DO UPDATE SET ({columns}) = ROW({excluded}) WHERE t IS DISTINCT FROM excluded"
            ),
        ];
        for sql in statements {
            let done =
                sqlx::query(AssertSqlSafe(sql)).bind(&rows).execute(&mut *transaction).await?;
            brought += done.rows_affected();
        }
    }
    transaction.commit().await?;
    control.commit().await?;
    Ok(brought > 0)
}
