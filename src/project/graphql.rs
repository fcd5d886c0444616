//! Projects as clients see them.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject, Subscription};
use chrono::{DateTime, Utc};
use entity::{ProjectId, project};

use super::{Description, ProjectName, loader::ProjectById, ops};
use crate::{
    auth::Permission,
    error::Result,
    graphql::{Connection, ContextExt, One, STATEMENT, one, parse_id, requires_permission, to_int},
    user::{User, UserById},
};

#[derive(Debug)]
pub struct Project(pub project::Model);

impl From<project::Model> for Project {
    fn from(row: project::Model) -> Self {
        Self(row)
    }
}

/// Something that the members of an organization work on.
#[Object]
impl Project {
    /// The project's id.
    pub async fn id(&self) -> ID {
        self.0.id.0.into()
    }

    /// What to call it: 1 to 100 characters.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What it is about: up to 2,000 characters. Null when nobody said.
    async fn description(&self, ctx: &Context<'_>) -> Option<Result<&str>> {
        let description = self.0.description.as_deref()?;
        Some(ctx.spend(description.len()).map(|()| description))
    }

    /// Who created it. Null when that person has left the organization.
    async fn created_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        let id = self.0.created_by?;
        ctx.load(UserById(id)).await.map(|row| row.map(User)).transpose()
    }

    /// When it was created.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// When it last changed.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }
}

/// A page of projects.
pub type ProjectConnection = Connection<Project, ProjectTotal>;

/// What the connection of projects adds to a page.
#[derive(Debug)]
pub struct ProjectTotal;

#[Object]
impl ProjectTotal {
    /// How many there are in all, on whatever page. Counted only when selected.
    #[graphql(complexity = "STATEMENT")]
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let count = ops::count(ctx.session()?).await?;
        Ok(to_int(count.try_into().unwrap_or(i64::MAX)))
    }
}

/// A project to create.
#[derive(Debug, InputObject)]
pub struct CreateProjectInput {
    /// What to call it: 1 to 100 characters on one line. Names need not be unique.
    pub name: String,
    /// What it is about: up to 2,000 characters.
    pub description: Option<String>,
}

/// The project that was created.
#[derive(Debug, SimpleObject)]
pub struct CreateProjectPayload {
    /// The new project.
    pub project: Project,
}

/// What to change about a project; a field that is left out stays as it is.
#[derive(Debug, InputObject)]
pub struct UpdateProjectInput {
    /// Which project.
    pub id: ID,
    /// The new name: 1 to 100 characters on one line. Null is refused.
    pub name: MaybeUndefined<String>,
    /// The new description: up to 2,000 characters. Null removes it.
    pub description: MaybeUndefined<String>,
}

/// The project as it is now.
#[derive(Debug, SimpleObject)]
pub struct UpdateProjectPayload {
    /// The changed project.
    pub project: Project,
}

/// A project to delete.
#[derive(Debug, InputObject)]
pub struct DeleteProjectInput {
    /// Which project.
    pub id: ID,
}

/// The project that is gone.
#[derive(Debug, SimpleObject)]
pub struct DeleteProjectPayload {
    /// The project as it was.
    pub project: Project,
}

/// Changes to projects.
#[derive(Debug, Default)]
pub struct ProjectMutation;

#[Object]
impl ProjectMutation {
    /// Creates a project in the current organization. Members and up; `PLAN_LIMIT_EXCEEDED` when
    /// the plan allows no more.
    #[graphql(directive = requires_permission::apply(Permission::ProjectCreate))]
    async fn create_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The project to create.")] input: CreateProjectInput,
    ) -> Result<CreateProjectPayload> {
        ctx.session()?.authorize(Permission::ProjectCreate)?;
        let name = ProjectName::parse(&input.name)?;
        let description = Description::parse(input.description.as_deref())?;
        let project = ops::create(ctx.session()?, name, description).await?;
        Ok(CreateProjectPayload { project: Project(project) })
    }

    /// Changes a project. Members and up; `NOT_FOUND` when the current organization has none with
    /// this id.
    #[graphql(directive = requires_permission::apply(Permission::ProjectUpdate))]
    async fn update_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which project, and what to change.")] input: UpdateProjectInput,
    ) -> Result<UpdateProjectPayload> {
        ctx.session()?.authorize(Permission::ProjectUpdate)?;
        let change = ops::Edit {
            name: input
                .name
                .as_opt_ref()
                .map(|name| ProjectName::parse(name.map_or("", String::as_str)))
                .transpose()?,
            description: input
                .description
                .as_opt_ref()
                .map(|text| Description::parse(text.map(String::as_str)))
                .transpose()?,
        };
        let project = ops::update(ctx.session()?, parse_id(&input.id), change).await?;
        Ok(UpdateProjectPayload { project: Project(project) })
    }

    /// Deletes a project for good. Admins and up; `NOT_FOUND` when the current organization has
    /// none with this id.
    #[graphql(directive = requires_permission::apply(Permission::ProjectDelete))]
    async fn delete_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which project.")] input: DeleteProjectInput,
    ) -> Result<DeleteProjectPayload> {
        let project = ops::delete(ctx.session()?, parse_id(&input.id)).await?;
        Ok(DeleteProjectPayload { project: Project(project) })
    }
}

/// A project that was created, changed or deleted.
#[derive(Debug, SimpleObject)]
pub struct ProjectChange {
    /// The project's id.
    pub id: ID,
    /// The project as it is now. Null when it was deleted.
    pub project: Option<Project>,
}

/// Changes of projects, as they happen.
#[derive(Debug, Default)]
pub struct ProjectSubscription;

#[Subscription]
impl ProjectSubscription {
    /// A project of the current organization was created, changed or deleted. Several changes at
    /// once may be told as one.
    async fn project_changed(&self, ctx: &Context<'_>) -> Result<One<ProjectChange>> {
        let id = *ctx.event::<ProjectId>()?;
        let project = ctx.load(ProjectById(id)).await?.map(Project);
        Ok(one(ProjectChange { id: id.0.into(), project }))
    }
}
