//! The functions of the database, each in a file of `migration/functions/` that is applied whenever
//! its text changes: the newest text is the only one, and its next change is a diff.
//!
//! A file drops what it replaces, creates the function, and grants it. Functions are applied after
//! all steps. Servers compare steps alone, so a change that servers depend on comes with a step.

use sqlx::{Connection, PgConnection};

macro_rules! functions {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../functions/", $name, ".sql")))),*]
    };
}

/// Their names and texts, in the order in which they are applied.
const FUNCTIONS: &[(&str, &str)] = &functions![
    "app.go_into",
    "auth.is_proven",
    "auth.register_proof_key",
    "auth.identity_digest",
    "auth.record_for_user",
    "auth.record_link",
    "auth.record_suspension",
    "auth.open_request",
    "auth.enter_organization",
    "auth.begin_organization",
    "auth.enter_invited",
    "auth.refresh_role",
    "auth.viewer_memberships",
    "auth.viewer_ownerships",
    "auth.claim_idempotency_key",
    "auth.keep_response",
    "auth.provision_user",
    "auth.bring_person",
    "auth.viewer_identities",
    "auth.unlink_identity",
    "app.claim_slug",
    "app.retire_slugs",
    "app.reserve_slug",
    "billing.finish_stripe_event",
];

/// The name under which the database knows the text of its carrier.
const CARRIER: &str = "carrier";

/// Carries the session where the app role cannot change it.
const PRIVILEGED: &str = include_str!("../functions/carrier.privileged.sql");

/// Carries the session in plain settings.
const PLAIN: &str = include_str!("../functions/carrier.plain.sql");

/// The functions that carry the session of a transaction, as far as the owner's rights go.
async fn carrier(
    connection: &mut PgConnection,
) -> Result<(&'static str, &'static str), sqlx::Error> {
    let may_set: bool = sqlx::query_scalar("SELECT has_parameter_privilege($1, $2, 'SET')")
        .bind(crate::OWNER_ROLE)
        .bind(crate::roles::CARRIER_PARAMETER)
        .fetch_one(connection)
        .await?;
    Ok((CARRIER, if may_set { PRIVILEGED } else { PLAIN }))
}

/// The functions whose text differs from the one that the database has, as one statement that
/// servers may run: its parameters are the names and the texts of [`texts`].
pub const OUTDATED: &str = "SELECT f.name FROM unnest($1::text[], $2::text[]) f (name, text)
    WHERE NOT EXISTS (SELECT FROM migration.functions m
                      WHERE m.name = f.name AND m.digest = sha256(convert_to(f.text, 'UTF8')))";

/// The names and the texts of the functions that this program knows.
#[must_use]
pub fn texts() -> (Vec<String>, Vec<String>) {
    FUNCTIONS.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).unzip()
}

/// Applies every function whose text differs from the one that the database has, all of them in one
/// transaction, and returns their names. The connection acts as the owner.
pub(crate) async fn apply(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS migration.functions (
             name       text PRIMARY KEY,
             digest     bytea NOT NULL,
             applied_at timestamptz NOT NULL DEFAULT now()
         );
         GRANT SELECT ON migration.functions TO tenantry_app, tenantry_system",
    )
    .execute(&mut *transaction)
    .await?;
    let mut applied = Vec::new();
    let carrier = carrier(&mut transaction).await?;
    for (name, text) in std::iter::once(carrier).chain(FUNCTIONS.iter().copied()) {
        let is_current: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM migration.functions
                            WHERE name = $1 AND digest = sha256(convert_to($2, 'UTF8')))",
        )
        .bind(name)
        .bind(text)
        .fetch_one(&mut *transaction)
        .await?;
        if is_current {
            continue;
        }
        sqlx::raw_sql(text).execute(&mut *transaction).await?;
        sqlx::query(
            "INSERT INTO migration.functions (name, digest)
             VALUES ($1, sha256(convert_to($2, 'UTF8')))
             ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, applied_at = now()",
        )
        .bind(name)
        .bind(text)
        .execute(&mut *transaction)
        .await?;
        applied.push(name.to_owned());
    }
    transaction.commit().await?;
    Ok(applied)
}
