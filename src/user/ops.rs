//! The caller's memberships across all organizations, and their name.

use chrono::{DateTime, Utc};
use entity::{OrgRole, OrganizationId};
use sea_orm::{ActiveEnum, ConnectionTrait, DbBackend, QueryResult, Statement};

use super::name::UserName;
use crate::{
    error::Result,
    tenancy::{Access, Session},
};

/// A membership of the caller. Its organization need not be the current one.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The organization.
    pub organization_id: OrganizationId,
    pub(super) name: String,
    pub(super) slug: String,
    /// The caller's role.
    pub role: OrgRole,
    pub(super) joined_at: DateTime<Utc>,
}

/// Lists the caller's memberships, oldest first.
///
/// # Errors
///
/// Fails when the database fails.
pub async fn memberships(session: &Session) -> Result<Vec<Membership>> {
    let statement =
        Statement::from_string(DbBackend::Postgres, "SELECT * FROM auth.viewer_memberships()");
    let rows = match session.ask_control(Access::Read, &statement).await? {
        Some(rows) => rows,
        None => session.query_all_raw(statement).await?,
    };
    rows.iter().map(membership).collect()
}

/// Gives the caller a name that their tokens do not change. `None`: the name follows the tokens
/// again. The session is in the control database, which records the change in each of the user's
/// organizations.
pub(super) async fn rename(session: &Session, name: Option<&UserName>) -> Result<()> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT auth.rename_viewer($1)",
        [name.map(UserName::as_str).into()],
    );
    session.execute_raw(statement).await?;
    Ok(())
}

fn membership(row: &QueryResult) -> Result<Membership> {
    Ok(Membership {
        organization_id: row.try_get("", "organization_id")?,
        name: row.try_get("", "name")?,
        slug: row.try_get("", "slug")?,
        role: OrgRole::try_from_value(&row.try_get("", "role")?)?,
        joined_at: row.try_get("", "joined_at")?,
    })
}
