//! What `tenantry tenant verify` has to say of an organization in a database of its own: whether
//! the control database finds it there, and finds there what is in the directory, but for changes
//! that are on their way.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use super::{
    Failure,
    move_organization::{DIRECTORY_LOCK, members, refreshed},
    organization::Organization,
    tables::{NONE, TableRows},
    verify::tell,
};
use crate::cli::say;

const VALID: &str = "retired_at IS NULL OR retired_at > now() - interval '89 days'";

/// Answers the faults.
pub(super) async fn check(
    control: &mut PgConnection,
    there: &mut PgConnection,
    organization: &Organization,
) -> Result<Vec<String>, Failure> {
    // For so long nobody brings the directory after, and who writes there waits for that: what is
    // large comes behind it.
    there.execute(AssertSqlSafe(format!("SELECT pg_advisory_lock({DIRECTORY_LOCK})"))).await?;
    let mut snapshot = there.begin().await?;
    snapshot.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
    let (mut faults, mut on_their_way) = (Vec::new(), 0);
    let (directory, rest): (Vec<_>, Vec<_>) =
        TableRows::of_all(&mut snapshot).await?.into_iter().partition(|rows| rows.table.mirrored);
    for rows in directory {
        let name = rows.table.name;
        let here = rows.digest(&mut snapshot, name, organization.id, NONE).await?;
        tell(name, &here);
        let (count, keys) = noted(&mut snapshot, organization.id, rows.table.base_name()).await?;
        on_their_way += count;
        let here = rows.digest(&mut snapshot, name, organization.id, &keys).await?;
        if here != rows.digest(control, name, organization.id, &keys).await? {
            faults.push(format!("{name} has rows that the directory has not, or has otherwise"));
        }
    }
    if on_their_way == 0 {
        faults.extend(check_slugs(control, &mut snapshot, organization).await?);
    } else {
        say(format!("{on_their_way} changes are on their way to the directory"));
    }
    snapshot.execute(AssertSqlSafe(format!("SELECT pg_advisory_unlock({DIRECTORY_LOCK})"))).await?;
    for rows in rest {
        let name = rows.table.name;
        tell(name, &rows.digest(&mut snapshot, name, organization.id, NONE).await?);
    }
    snapshot.commit().await?;
    faults.extend(check_people(control, there, organization).await?);
    Ok(faults)
}

/// How many rows of a table the directory does not have as they are, and their keys.
async fn noted(
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

/// The database knows slugs by which it is found; which, the control database decides.
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
        "app.organization_slugs has slugs that the control database has not, or has otherwise"
            .to_owned()
    }))
}

/// Members are known there as they are, or as they were before a change that is on its way.
async fn check_people(
    control: &mut PgConnection,
    there: &mut PgConnection,
    organization: &Organization,
) -> Result<Option<String>, sqlx::Error> {
    let known = members(control, organization.id, "").await?;
    if refreshed(there, &known).await?.is_empty() {
        return Ok(None);
    }
    let changing: Vec<Uuid> = sqlx::query_scalar("SELECT user_id FROM auth.people_changes")
        .fetch_all(&mut *control)
        .await?;
    // Somebody may have changed between the two looks.
    let known = members(control, organization.id, "").await?;
    let mut others = refreshed(there, &known).await?;
    others.retain(|person| !changing.contains(person));
    Ok((!others.is_empty()).then(|| {
        format!("auth.users has {} members otherwise than the control database", others.len())
    }))
}
