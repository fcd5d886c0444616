//! The rules of projects. Each operation authorizes, checks, writes, and records what it did.

use entity::{ProjectId, project};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter,
    QuerySelect, Select, Set, sea_query::LockType,
};
use serde_json::json;
use tokio::try_join;
use uuid::Uuid;

use super::{Description, ProjectName};
use crate::{
    audit::{self, Action},
    auth::Permission,
    children::Children,
    error::{Error, Result},
    page::{Cursor, Keyed, Page, Slice},
    plan,
    tenancy::{Change, Fetch as _, Session, Tenant, UnitOfWork},
};

/// The key of the feature that limits projects.
pub(super) const PROJECTS: &str = "projects";

/// The number of projects, as a query: `$1` is the organization.
pub(super) const IN_USE: &str = "SELECT count(*) FROM projects WHERE organization_id = $1";

/// The topic of changes to projects.
pub(super) const TOPIC: &str = "project";

impl Keyed for project::Model {
    fn cursor(&self) -> Cursor {
        Cursor { at: self.created_at, id: self.id.0 }
    }
}

/// The fields to change. `None` leaves a field unchanged.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) name: Option<ProjectName>,
    pub(super) description: Option<Description>,
}

/// The projects that each user created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CreatedBy;

impl Children for CreatedBy {
    type Entity = project::Entity;

    fn all(session: &Session) -> Result<Select<project::Entity>> {
        Ok(all(session.authorize(Permission::OrganizationRead)?))
    }

    fn columns() -> [project::Column; 3] {
        [project::Column::CreatedBy, project::Column::CreatedAt, project::Column::Id]
    }

    fn parent(row: &project::Model) -> Option<Uuid> {
        row.created_by.map(|user| user.0)
    }
}

fn all(tenant: Tenant) -> Select<project::Entity> {
    project::Entity::find().filter(project::Column::OrganizationId.eq(tenant.organization_id))
}

/// Lists a page of the projects, newest first.
///
/// # Errors
///
/// Fails without an organization.
pub async fn list(session: &Session, page: &Page) -> Result<Slice<project::Model>> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    let rows = page
        .narrow(all(tenant), project::Column::CreatedAt, project::Column::Id)
        .fetch(session)
        .await?;
    Ok(page.slice(rows))
}

pub(super) async fn count(session: &Session) -> Result<u64> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    Ok(all(tenant).count(session).await?)
}

pub(super) async fn create(
    session: &Session,
    name: ProjectName,
    description: Description,
) -> Result<project::Model> {
    session.authorize(Permission::ProjectCreate)?;
    // Both statements are sent together and executed in this order, so the count is made under the
    // lock.
    let (lock, count) = try_join!(biased; plan::lock(session), count(session))?;
    let tenant = session.authorize(Permission::ProjectCreate)?;
    plan::require(session, &lock, PROJECTS, count).await?;
    let id = ProjectId::new();
    let name = name.into_string();
    let metadata = json!({ "name": name });
    let project = project::ActiveModel {
        organization_id: Set(tenant.organization_id),
        id: Set(id),
        name: Set(name),
        description: Set(description.into_option()),
        created_by: Set(Some(session.viewer().user_id)),
        ..Default::default()
    };
    let (project, ()) = try_join!(
        biased;
        async { Ok(project::Entity::insert(project).exec_with_returning(session).await?) },
        audit::record(session, Action::ProjectCreated, Some(id.0), metadata)
    )?;
    session.note(Change::of(TOPIC, project.id.0));
    session.note(Change::new(plan::ENTITLEMENTS));
    Ok(project)
}

pub(super) async fn update(
    session: &Session,
    id: Option<ProjectId>,
    edit: Edit,
) -> Result<project::Model> {
    let before = find_locked(session, Permission::ProjectUpdate, id).await?;
    let mut row = before.clone().into_active_model();
    if let Some(name) = edit.name {
        row.name.set_if_not_equals(name.into_string());
    }
    if let Some(description) = edit.description {
        row.description.set_if_not_equals(description.into_option());
    }
    if !row.is_changed() {
        return Ok(before);
    }
    let after = row.update(session).await?;
    let mut metadata = json!({ "name": after.name });
    if before.name != after.name {
        metadata["old_name"] = json!(before.name);
    }
    if before.description != after.description {
        metadata["old_description"] = json!(before.description);
        metadata["description"] = json!(after.description);
    }
    audit::record(session, Action::ProjectUpdated, Some(after.id.0), metadata).await?;
    session.note(Change::of(TOPIC, after.id.0));
    Ok(after)
}

pub(super) async fn delete(session: &Session, id: Option<ProjectId>) -> Result<project::Model> {
    let project = find_locked(session, Permission::ProjectDelete, id).await?;
    project::Entity::delete_by_id((project.organization_id, project.id)).exec(session).await?;
    let metadata = json!({ "name": project.name });
    audit::record(session, Action::ProjectDeleted, Some(project.id.0), metadata).await?;
    session.note(Change::of(TOPIC, project.id.0));
    session.note(Change::new(plan::ENTITLEMENTS));
    Ok(project)
}

/// Finds a project and locks it against concurrent changes.
async fn find_locked(
    session: &Session,
    permission: Permission,
    id: Option<ProjectId>,
) -> Result<project::Model> {
    const NOT_FOUND: Error = Error::NotFound("project");
    let tenant = session.authorize(permission)?;
    let id = id.ok_or(NOT_FOUND)?;
    let find = async {
        let project = all(tenant).filter(project::Column::Id.eq(id)).lock(LockType::Update);
        Ok(project.fetch_one(session).await?)
    };
    // Sent together and executed in this order.
    let ((), found) = try_join!(biased; plan::lock_if_several_changes(session), find)?;
    session.authorize(permission)?;
    found.ok_or(NOT_FOUND)
}
