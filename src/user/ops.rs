//! The caller's memberships across all organizations, and their name.

use chrono::{DateTime, Utc};
use entity::{OrgRole, OrganizationId};
use sea_orm::{ConnectionTrait, FromQueryResult};

use crate::{error::Result, sql::sql, tenancy::Session, text::Line};

/// A membership of the caller. Its organization need not be the current one.
#[derive(Clone, Debug, FromQueryResult)]
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
    let rows = session.read_control(sql("SELECT * FROM auth.viewer_memberships()", [])).await?;
    rows.iter().map(|row| Ok(Membership::from_query_result(row, "")?)).collect()
}

/// Gives the caller a name that their tokens do not change. `None`: the name follows the tokens
/// again. The session is in the control database, which records the change in each of the user's
/// organizations.
pub(super) async fn rename(session: &Session, name: Option<Line<200>>) -> Result<()> {
    let values = [name.map(Line::into_string).into()];
    session.execute_raw(sql("SELECT auth.rename_viewer($1)", values)).await?;
    Ok(())
}
