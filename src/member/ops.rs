//! The rules of membership.

use entity::{MemberId, OrgRole, organization_member};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, Set};

use crate::{
    auth::Permission,
    error::Result,
    page::{Cursor, Keyed, Page, Slice},
    tenancy::Session,
};

impl Keyed for organization_member::Model {
    fn cursor(&self) -> Cursor {
        Cursor { at: self.created_at, id: self.id.0 }
    }
}

/// A page of the members, newest first.
///
/// # Errors
///
/// Without an organization.
pub async fn list(session: &Session, page: &Page) -> Result<Slice<organization_member::Model>> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    let all = organization_member::Entity::find()
        .filter(organization_member::Column::OrganizationId.eq(tenant.organization_id));
    let rows = page
        .narrow(all, organization_member::Column::CreatedAt, organization_member::Column::Id)
        .all(session)
        .await?;
    Ok(page.slice(rows))
}

pub(super) async fn count(session: &Session) -> Result<u64> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    Ok(organization_member::Entity::find()
        .filter(organization_member::Column::OrganizationId.eq(tenant.organization_id))
        .count(session)
        .await?)
}

/// Gives the caller the first seat of an organization that they are just creating.
///
/// # Errors
///
/// When the session has not entered that organization as its owner.
pub async fn add_owner(session: &Session) -> Result<()> {
    let tenant = session.authorize(Permission::OrganizationDelete)?;
    let row = organization_member::ActiveModel {
        organization_id: Set(tenant.organization_id),
        id: Set(MemberId::new()),
        user_id: Set(session.viewer().user_id),
        role: Set(OrgRole::Owner),
        ..Default::default()
    };
    organization_member::Entity::insert(row).exec_without_returning(session).await?;
    Ok(())
}
