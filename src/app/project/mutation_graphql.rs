//! The mutations of projects in the GraphQL API.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};

use super::{graphql::Project, ops};
use crate::{
    auth::Permission,
    error::Result,
    graphql::{ContextExt, nullable, parse_id, required, requires_permission},
    text::{Block, Line},
};

/// Input of `createProject`.
#[derive(Debug, InputObject)]
pub struct CreateProjectInput {
    /// The name: 1 to 100 characters, on one line. Names need not be unique.
    pub name: String,
    /// The description: up to 2,000 characters.
    pub description: Option<String>,
}

/// Payload of `createProject`.
#[derive(Debug, SimpleObject)]
pub struct CreateProjectPayload {
    /// The new project.
    pub project: Project,
}

/// Input of `updateProject`. Omitted fields stay unchanged.
#[derive(Debug, InputObject)]
pub struct UpdateProjectInput {
    /// The ID of the project.
    pub id: ID,
    /// The new name: 1 to 100 characters, on one line. Null is an error.
    pub name: MaybeUndefined<String>,
    /// The new description: up to 2,000 characters. Null removes it.
    pub description: MaybeUndefined<String>,
}

/// Payload of `updateProject`.
#[derive(Debug, SimpleObject)]
pub struct UpdateProjectPayload {
    /// The updated project.
    pub project: Project,
}

/// Input of `deleteProject`.
#[derive(Debug, InputObject)]
pub struct DeleteProjectInput {
    /// The ID of the project.
    pub id: ID,
}

/// Payload of `deleteProject`.
#[derive(Debug, SimpleObject)]
pub struct DeleteProjectPayload {
    /// The project before its deletion.
    pub project: Project,
}

/// The mutations of projects.
#[derive(Debug, Default)]
pub struct ProjectMutation;

#[Object]
impl ProjectMutation {
    /// Creates a project in the current organization. All roles except viewers.
    ///
    /// Errors: `PLAN_LIMIT_EXCEEDED` if the plan allows no more projects; `BAD_USER_INPUT` for an
    /// invalid name or description.
    #[graphql(directive = requires_permission::apply(Permission::ProjectCreate))]
    async fn create_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The project to create.")] input: CreateProjectInput,
    ) -> Result<CreateProjectPayload> {
        ctx.session()?.authorize(Permission::ProjectCreate)?;
        let new = ops::NewProject {
            name: Line::parse("input.name", &input.name)?,
            description: Block::parse_optional("input.description", input.description.as_deref())?,
        };
        let project = ops::create(ctx.session()?, new).await?;
        Ok(CreateProjectPayload { project: Project(project) })
    }

    /// Updates a project. All roles except viewers.
    ///
    /// Errors: `NOT_FOUND` if the current organization has no such project; `BAD_USER_INPUT` for an
    /// invalid name or description.
    #[graphql(directive = requires_permission::apply(Permission::ProjectUpdate))]
    async fn update_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The project, and the new values.")] input: UpdateProjectInput,
    ) -> Result<UpdateProjectPayload> {
        ctx.session()?.authorize(Permission::ProjectUpdate)?;
        let edit = ops::ProjectEdit {
            name: required("input.name", input.name)?
                .try_map(|value| Line::parse("input.name", &value))?,
            description: nullable(input.description)
                .try_map(|value| Block::parse_optional("input.description", value.as_deref()))?,
        };
        let project = ops::update(ctx.session()?, parse_id(&input.id), edit).await?;
        Ok(UpdateProjectPayload { project: Project(project) })
    }

    /// Deletes a project permanently. Admins and owners only.
    ///
    /// Errors: `NOT_FOUND` if the current organization has no such project.
    #[graphql(directive = requires_permission::apply(Permission::ProjectDelete))]
    async fn delete_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The project.")] input: DeleteProjectInput,
    ) -> Result<DeleteProjectPayload> {
        let project = ops::delete(ctx.session()?, parse_id(&input.id)).await?;
        Ok(DeleteProjectPayload { project: Project(project) })
    }
}
