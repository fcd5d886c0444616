//! The rules of projects. Each operation authorizes, checks, writes, and records what it did.

use entity::app::{ProjectId, project};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter,
    QuerySelect, Select, Set, sea_query::LockType,
};
use serde_json::{Value, json};
use tokio::try_join;
use uuid::Uuid;

use crate::{
    audit::{self, Action},
    auth::Permission,
    children::Children,
    edit::Edit,
    error::{Error, Result},
    page::{Cursor, Keyed, Page, Slice},
    plan,
    tenancy::{Change, Fetch as _, Session, Tenant, UnitOfWork},
    text::{Block, Line},
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

/// The fields of a new project.
#[derive(Debug)]
pub(super) struct NewProject {
    pub(super) name: Line<100>,
    pub(super) description: Option<Block<2_000>>,
}

/// The fields to change.
#[derive(Debug)]
pub(super) struct ProjectEdit {
    pub(super) name: Edit<Line<100>>,
    pub(super) description: Edit<Option<Block<2_000>>>,
}

impl ProjectEdit {
    fn apply_to(self, row: &mut project::ActiveModel) {
        self.name.map(Line::into_string).apply_to(&mut row.name);
        self.description.map(|value| value.map(Block::into_string)).apply_to(&mut row.description);
    }
}

/// The metadata of an update.
fn changes(before: &project::Model, after: &project::Model) -> Value {
    let mut metadata = json!({ "name": after.name });
    audit::add_changes(
        &mut metadata,
        [
            ("name", json!(before.name), json!(after.name)),
            ("description", json!(before.description), json!(after.description)),
        ],
    );
    metadata
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

pub(super) async fn create(session: &Session, new: NewProject) -> Result<project::Model> {
    session.authorize(Permission::ProjectCreate)?;
    // What is sent together is executed in this order: a count is made under the lock.
    let (lock, count) = try_join!(biased; plan::lock(session), count(session))?;
    let tenant = session.authorize(Permission::ProjectCreate)?;
    plan::require(session, &lock, PROJECTS, count).await?;
    let id = ProjectId::new();
    let name = new.name.into_string();
    let metadata = json!({ "name": name });
    let project = project::ActiveModel {
        organization_id: Set(tenant.organization_id),
        id: Set(id),
        name: Set(name),
        description: Set(new.description.map(Block::into_string)),
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
    edit: ProjectEdit,
) -> Result<project::Model> {
    let before = find_locked(session, Permission::ProjectUpdate, id).await?;
    let mut row = before.clone().into_active_model();
    edit.apply_to(&mut row);
    if !row.is_changed() {
        return Ok(before);
    }
    let after = row.update(session).await?;
    let metadata = changes(&before, &after);
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
