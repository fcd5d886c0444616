//! The rules of organizations.

use entity::{OrgRole, OrganizationId, organization};
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DbBackend, EntityTrait, IntoActiveModel, QuerySelect, Set,
    Statement, sea_query::LockType,
};
use serde_json::json;

use super::{OrganizationName, Slug};
use crate::{
    audit::{self, Action},
    auth::Permission,
    billing,
    error::{Error, Result},
    member,
    tenancy::{Session, Tenant},
};

/// Founds an organization, and goes on inside it: its id is made here, so that every row is written under its settings.
pub(super) async fn create(
    session: &Session,
    name: OrganizationName,
    slug: Slug,
) -> Result<organization::Model> {
    let organization_id = OrganizationId::new();
    session.enter(Tenant { organization_id, role: OrgRole::Owner }).await?;
    claim_slug(session, &slug).await?;
    let organization = organization::ActiveModel {
        id: Set(organization_id),
        name: Set(name.into_string()),
        slug: Set(slug.into_string()),
        ..Default::default()
    };
    let organization =
        organization::Entity::insert(organization).exec_with_returning(session).await?;
    member::add_owner(session).await?;
    billing::create(session, organization_id).await?;
    let metadata = json!({ "name": organization.name, "slug": organization.slug });
    audit::record(session, Action::OrganizationCreated, Some(organization_id.0), metadata).await?;
    Ok(organization)
}

async fn claim_slug(session: &Session, slug: &Slug) -> Result<()> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT app.claim_slug($1)",
        [slug.as_str().into()],
    );
    let claimed = match session.query_one_raw(statement).await? {
        Some(row) => row.try_get_by_index(0)?,
        None => false,
    };
    if claimed {
        Ok(())
    } else {
        Err(Error::Conflict(format!("the slug {} is taken", slug.as_str())))
    }
}

pub(super) async fn rename(
    session: &Session,
    name: OrganizationName,
) -> Result<organization::Model> {
    let tenant = session.authorize(Permission::OrganizationUpdate)?;
    let before = organization::Entity::find_by_id(tenant.organization_id)
        .lock(LockType::NoKeyUpdate)
        .one(session)
        .await?
        .ok_or(Error::OrganizationNotFound)?;
    let mut row = before.clone().into_active_model();
    row.name.set_if_not_equals(name.into_string());
    if !row.is_changed() {
        return Ok(before);
    }
    let after = row.update(session).await?;
    let metadata = json!({ "old_name": before.name, "name": after.name });
    audit::record(session, Action::OrganizationUpdated, Some(after.id.0), metadata).await?;
    Ok(after)
}
