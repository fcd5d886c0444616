//! Copies users to a dedicated database before rows refer to them, and members once more in the
//! switch. From then on servers keep members up to date.

use std::collections::HashMap;

use pg::Client;
use uuid::Uuid;

use crate::cli::tenant::table_rows::{TableRows, user_columns};

/// Users per statement. Each is locked until its end.
const BATCH: usize = 100;

/// A user `u` as one text. Without the time of the last token: servers copy it with the
/// next token.
const ONE: &str =
    "md5(concat_ws(' ', u.email, quote_nullable(u.name), quote_nullable(u.named_at), quote_nullable(u.picture),
                   quote_nullable(u.suspended_at),
                   (SELECT string_agg(concat_ws(' ', quote_literal(i.issuer), quote_literal(i.subject), i.email,
                                                quote_nullable(i.profile), quote_nullable(i.not_before)), ','
                                                   ORDER BY i.issuer COLLATE \"C\", i.subject COLLATE \"C\")
                                         FROM auth.identities i WHERE i.user_id = u.id)))";

/// Copies the users that rows refer to and that the dedicated database lacks.
pub(super) async fn copy_missing(
    control: &Client,
    there: &Client,
    rows: &TableRows,
    content: &[String],
) -> pg::Result<()> {
    let columns = user_columns(there, &rows.table.name).await?;
    if columns.is_empty() || content.is_empty() {
        return Ok(());
    }
    let places: Vec<_> =
        columns.iter().map(|column| format!("((v::{}).{column})", rows.table.name)).collect();
    let sql = format!(
        "SELECT DISTINCT id FROM unnest($1::text[]) v CROSS JOIN LATERAL (VALUES {}) p (id) WHERE id IS NOT NULL",
        places.join(", ")
    );
    let users: Vec<Uuid> = there.query(&sql, &[&content]).await?;
    copy(control, there, &missing(there, &users).await?).await
}

/// The users among these that the dedicated database lacks, in order.
pub(super) async fn missing(there: &Client, users: &[Uuid]) -> pg::Result<Vec<Uuid>> {
    there
        .query(
            "SELECT p.id FROM unnest($1::uuid[]) p (id) WHERE NOT EXISTS (SELECT FROM auth.users u WHERE u.id = p.id) ORDER BY p.id",
            &[&users],
        )
        .await
}

/// Copies users in the given order, so that concurrent commands wait for each other instead of
/// deadlocking.
pub(in crate::cli) async fn copy(
    control: &Client,
    there: &Client,
    users: &[Uuid],
) -> pg::Result<()> {
    for some in users.chunks(BATCH) {
        let copies: Vec<String> = control
            .query(
                "SELECT copy::text FROM unnest($1::uuid[]) WITH ORDINALITY p (id, place), auth.read_user(id) copy
             WHERE copy IS NOT NULL ORDER BY place",
                &[&some],
            )
            .await?;
        there
            .execute("SELECT auth.copy_user(copy::jsonb) FROM unnest($1::text[]) copy", &[&copies])
            .await?;
    }
    Ok(())
}

/// The members of an organization and a fingerprint of each in the control database.
pub(in crate::cli::tenant) async fn members(
    control: &Client,
    organization: Uuid,
    lock: &str,
) -> pg::Result<HashMap<Uuid, String>> {
    let sql = format!(
        "SELECT u.id, {ONE} FROM auth.users u
         WHERE u.id IN (SELECT m.user_id FROM auth.organization_members m WHERE m.organization_id = $1) {lock}"
    );
    let users: Vec<(Uuid, String)> = control.query(&sql, &[&organization]).await?;
    Ok(users.into_iter().collect())
}

/// The users that are missing or different in the dedicated database.
pub(in crate::cli::tenant) async fn outdated_users(
    there: &Client,
    known: &HashMap<Uuid, String>,
) -> pg::Result<Vec<Uuid>> {
    let ids: Vec<Uuid> = known.keys().copied().collect();
    let sql = format!("SELECT u.id, {ONE} FROM auth.users u WHERE u.id = ANY ($1)");
    let users: Vec<(Uuid, String)> = there.query(&sql, &[&ids]).await?;
    let there: HashMap<Uuid, String> = users.into_iter().collect();
    let mut others: Vec<Uuid> =
        ids.into_iter().filter(|id| there.get(id) != known.get(id)).collect();
    others.sort_unstable();
    Ok(others)
}
