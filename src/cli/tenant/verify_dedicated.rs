//! `tenantry tenant verify` for an organization in a dedicated database: compares it with the
//! control database's directory, except for changes that directory sync has not copied yet.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use super::{
    Failure,
    move_organization::{DIRECTORY_LOCK, members, outdated_users},
    organization::Organization,
    table_rows::{NONE, TableRows},
    verify::print,
};
use crate::cli::say;

const VALID: &str = "retired_at IS NULL OR retired_at > now() - interval '89 days'";

/// Returns the faults.
pub(super) async fn check(
    control: &mut PgConnection,
    there: &mut PgConnection,
    organization: &Organization,
) -> Result<Vec<String>, Failure> {
    // While this lock is held, directory sync pauses and writers of the directory wait. Large
    // tables are therefore checked after it is released.
    there.execute(AssertSqlSafe(format!("SELECT pg_advisory_lock({DIRECTORY_LOCK})"))).await?;
    let mut snapshot = there.begin().await?;
    snapshot.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
    let (mut faults, mut pending) = (Vec::new(), 0);
    let (directory, rest): (Vec<_>, Vec<_>) =
        TableRows::of_all(&mut snapshot).await?.into_iter().partition(|rows| rows.table.mirrored);
    for rows in directory {
        let name = rows.table.name;
        let here = rows.digest(&mut snapshot, name, organization.id, NONE).await?;
        print(name, &here);
        let (count, keys) =
            pending_keys(&mut snapshot, organization.id, rows.table.base_name()).await?;
        pending += count;
        let here = rows.digest(&mut snapshot, name, organization.id, &keys).await?;
        if here != rows.digest(control, name, organization.id, &keys).await? {
            faults.push(format!("{name} has rows that are missing or different in the directory"));
        }
    }
    if pending == 0 {
        faults.extend(check_slugs(control, &mut snapshot, organization).await?);
    } else {
        say(format!("{pending} changes are waiting for directory sync"));
    }
    snapshot.execute(AssertSqlSafe(format!("SELECT pg_advisory_unlock({DIRECTORY_LOCK})"))).await?;
    for rows in rest {
        let name = rows.table.name;
        print(name, &rows.digest(&mut snapshot, name, organization.id, NONE).await?);
    }
    snapshot.commit().await?;
    faults.extend(check_users(control, there, organization).await?);
    Ok(faults)
}

/// Returns how many rows of a table wait for directory sync, and their keys.
async fn pending_keys(
    connection: &mut PgConnection,
    organization: Uuid,
    table: &str,
) -> Result<(i64, String), sqlx::Error> {
    sqlx::query_as(
        "SELECT count(DISTINCT key), coalesce(jsonb_agg(DISTINCT key), '[]')::text FROM app.directory_changes
         WHERE organization_id = $1 AND table_name = $2",
    )
    .bind(organization)
    .bind(table)
    .fetch_one(connection)
    .await
}

/// Compares the slugs by which the database finds the organization. The control database decides
/// which slugs it has.
async fn check_slugs(
    control: &mut PgConnection,
    there: &mut PgConnection,
    organization: &Organization,
) -> Result<Option<String>, sqlx::Error> {
    let known: Vec<(String, bool)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT slug, retired_at IS NULL FROM app.organization_slugs WHERE organization_id = $1 AND ({VALID})"
    )))
    .bind(organization.id)
    .fetch_all(there)
    .await?;
    let decided: Vec<(String, bool)> = sqlx::query_as(
        "SELECT slug, retired_at IS NULL FROM app.organization_slugs WHERE organization_id = $1",
    )
    .bind(organization.id)
    .fetch_all(control)
    .await?;
    let current = decided.iter().filter(|(_, current)| *current);
    let same = known.iter().all(|slug| decided.contains(slug))
        && current.clone().all(|slug| known.contains(slug));
    Ok((!same).then(|| {
        "app.organization_slugs has slugs that are missing or different in the control database"
            .to_owned()
    }))
}

/// Compares the copies of members, except for those whose change is waiting for directory sync.
async fn check_users(
    control: &mut PgConnection,
    there: &mut PgConnection,
    organization: &Organization,
) -> Result<Option<String>, sqlx::Error> {
    let known = members(control, organization.id, "").await?;
    if outdated_users(there, &known).await?.is_empty() {
        return Ok(None);
    }
    let changing: Vec<Uuid> = sqlx::query_scalar("SELECT user_id FROM auth.user_changes")
        .fetch_all(&mut *control)
        .await?;
    // A member may have changed between the two reads, so compare again.
    let known = members(control, organization.id, "").await?;
    let mut others = outdated_users(there, &known).await?;
    others.retain(|user| !changing.contains(user));
    Ok((!others.is_empty()).then(|| {
        format!("auth.users has {} members that differ from the control database", others.len())
    }))
}
