//! `tenantry tenant verify` for an organization in a dedicated database: compares it with the
//! control database's directory, except for changes that directory sync has not copied yet.

use pg::Client;
use uuid::Uuid;

use super::{
    Failure,
    locks::begin_snapshot,
    move_organization::{DIRECTORY_LOCK, members, outdated_users},
    organization::Organization,
    table_rows::{NONE, TableRows},
};
use crate::cli::say;

const VALID: &str = "retired_at IS NULL OR retired_at > now() - interval '89 days'";

/// Returns the faults.
pub(super) async fn check(
    control: &Client,
    there: &mut Client,
    organization: &Organization,
) -> Result<Vec<String>, Failure> {
    // While this lock is held, directory sync pauses and writers of the directory wait. Large
    // tables are therefore checked after it is released.
    there.batch(&format!("SELECT pg_advisory_lock({DIRECTORY_LOCK})")).await?;
    let snapshot = begin_snapshot(there).await?;
    let (mut faults, mut pending) = (Vec::new(), 0);
    let (directory, rest): (Vec<_>, Vec<_>) =
        TableRows::of_all(&snapshot).await?.into_iter().partition(|rows| rows.table.mirrored);
    for rows in directory {
        let name = &rows.table.name;
        let here = rows.digest(&snapshot, name, organization.id, NONE).await?;
        here.print(name);
        let (keys, count) =
            rows.noted_keys(&snapshot, "app.directory_changes", organization.id).await?;
        pending += count;
        let here = rows.digest(&snapshot, name, organization.id, &keys).await?;
        if here != rows.digest(control, name, organization.id, &keys).await? {
            faults.push(format!("{name} has rows that are missing or different in the directory"));
        }
    }
    if pending == 0 {
        faults.extend(check_slugs(control, &snapshot, organization).await?);
    } else {
        say(format!("{pending} changes are waiting for directory sync"));
    }
    snapshot.batch(&format!("SELECT pg_advisory_unlock({DIRECTORY_LOCK})")).await?;
    for rows in rest {
        let name = &rows.table.name;
        rows.digest(&snapshot, name, organization.id, NONE).await?.print(name);
    }
    snapshot.commit().await?;
    faults.extend(check_users(control, there, organization).await?);
    Ok(faults)
}

/// Compares the slugs by which the database finds the organization. The control database decides
/// which slugs it has.
async fn check_slugs(
    control: &Client,
    there: &Client,
    organization: &Organization,
) -> pg::Result<Option<String>> {
    let known: Vec<(String, bool)> = there
        .query(
            &format!(
        "SELECT slug, retired_at IS NULL FROM app.organization_slugs WHERE organization_id = $1 AND ({VALID})"
    ),
            &[&organization.id],
        )
        .await?;
    let decided: Vec<(String, bool)> = control
        .query(
            "SELECT slug, retired_at IS NULL FROM app.organization_slugs WHERE organization_id = $1",
            &[&organization.id],
        )
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
    control: &Client,
    there: &Client,
    organization: &Organization,
) -> pg::Result<Option<String>> {
    let known = members(control, organization.id, "").await?;
    if outdated_users(there, &known).await?.is_empty() {
        return Ok(None);
    }
    let changing: Vec<Uuid> = control.query("SELECT user_id FROM auth.user_changes", &[]).await?;
    // A member may have changed between the two reads, so compare again.
    let known = members(control, organization.id, "").await?;
    let mut others = outdated_users(there, &known).await?;
    others.retain(|user| !changing.contains(user));
    Ok((!others.is_empty()).then(|| {
        format!("auth.users has {} members that differ from the control database", others.len())
    }))
}
