//! The caller's memberships across all organizations.

use chrono::{DateTime, Utc};
use entity::{OrgRole, OrganizationId};
use sea_orm::{ActiveEnum, ConnectionTrait, DbBackend, QueryResult, Statement};

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

fn membership(row: &QueryResult) -> Result<Membership> {
    Ok(Membership {
        organization_id: row.try_get("", "organization_id")?,
        name: row.try_get("", "name")?,
        slug: row.try_get("", "slug")?,
        role: OrgRole::try_from_value(&row.try_get("", "role")?)?,
        joined_at: row.try_get("", "joined_at")?,
    })
}
