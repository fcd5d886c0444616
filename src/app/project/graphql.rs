//! Projects in the GraphQL API: the type, its connection and subscription.

use async_graphql::{Context, ID, Object, SimpleObject, Subscription, connection::EmptyFields};
use chrono::{DateTime, Utc};
use entity::{
    UserId,
    app::{ProjectId, project},
};

use super::{loader::ProjectById, ops};
use crate::{
    audit::{AuditLogConnection, OfResource},
    auth::Permission,
    error::Result,
    graphql::{
        Connection, ContextExt, Extended, Loaded, One, STATEMENT, connection, on_change, one,
        page_cost, parse_id, requires_permission, to_int,
    },
    member::Member,
    page::Page,
    tenancy::Change,
    user::{User, UserById},
};

#[derive(Debug)]
pub struct Project(pub project::Model);

impl From<project::Model> for Project {
    fn from(row: project::Model) -> Self {
        Self(row)
    }
}

/// A project of the organization.
#[Object]
impl Project {
    /// The ID of the project.
    pub async fn id(&self) -> ID {
        self.0.id.0.into()
    }

    /// The display name. 1 to 100 characters.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The description. Up to 2,000 characters. Null if there is none.
    async fn description(&self, ctx: &Context<'_>) -> Option<Result<&str>> {
        let description = self.0.description.as_deref()?;
        Some(ctx.spend(description.len()).map(|()| description))
    }

    /// The user who created the project. Null if that user has left the organization.
    async fn created_by(&self, ctx: &Context<'_>) -> Option<Result<Loaded<User>>> {
        let id = self.0.created_by?;
        ctx.load(UserById(id)).await.map(|row| row.map(User).map(Loaded)).transpose()
    }

    /// When the project was created.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// When the project last changed.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }

    /// The audit log of the project, newest first. Admins and owners only. It has no `totalCount`.
    #[graphql(
        complexity = "page_cost(first, last, child_complexity)",
        directive = requires_permission::apply(Permission::AuditLogRead)
    )]
    async fn audit_logs(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The number of items from the start, at most 100. Defaults to 20 without `last`."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "The number of items from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<AuditLogConnection>> {
        let logs = async {
            let page = Page::parse(first, after.as_deref(), last, before.as_deref())?;
            Ok(connection(ctx.children(OfResource, self.0.id.0, page).await?, EmptyFields))
        };
        Some(logs.await)
    }

    #[graphql(flatten)]
    async fn other_areas(&self) -> <Self as Extended>::Fields {
        self.into()
    }
}

/// A page of projects.
pub type ProjectConnection = Connection<Project, ProjectTotal>;

/// The additional fields of the connection.
#[derive(Debug)]
pub enum ProjectTotal {
    /// Of all projects.
    All,
    /// Of the projects that the user created.
    CreatedBy(UserId),
}

#[Object]
impl ProjectTotal {
    /// The number of projects on all pages. Counted only if selected.
    #[graphql(complexity = "STATEMENT")]
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let count = match self {
            Self::All => ops::count(ctx.session()?).await?.try_into().unwrap_or(i64::MAX),
            Self::CreatedBy(user) => ctx.count_children(ops::CreatedBy, user.0).await?,
        };
        Ok(to_int(count))
    }
}

/// Projects as fields of `Organization`.
#[derive(Debug, Default)]
pub struct ProjectsOfOrganization;

#[Object]
impl ProjectsOfOrganization {
    /// The projects, newest first.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn projects(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The number of items from the start, at most 100. Defaults to 20 without `last`."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "The number of items from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Result<ProjectConnection> {
        let page = Page::parse(first, after.as_deref(), last, before.as_deref())?;
        Ok(connection(ops::list(ctx.session()?, &page).await?, ProjectTotal::All))
    }

    /// The project with this ID. Null if the organization has none.
    async fn project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the project.")] id: ID,
    ) -> Option<Result<Loaded<Project>>> {
        let key = ProjectById(parse_id(&id)?);
        ctx.load(key).await.map(|row| row.map(Project).map(Loaded)).transpose()
    }
}

/// Projects as fields of `Member`.
#[derive(Debug)]
pub struct ProjectsOfMember(UserId);

impl From<&Member> for ProjectsOfMember {
    fn from(member: &Member) -> Self {
        Self(member.0.user_id)
    }
}

#[Object]
impl ProjectsOfMember {
    /// The projects that the member created, newest first. Null only in the payload of
    /// `leaveOrganization`.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn projects(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The number of items from the start, at most 100. Defaults to 20 without `last`."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "The number of items from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<ProjectConnection>> {
        // A caller who has left sees nothing of the organization.
        ctx.session().ok()?.tenant()?;
        let projects = async {
            let page = Page::parse(first, after.as_deref(), last, before.as_deref())?;
            let slice = ctx.children(ops::CreatedBy, self.0.0, page).await?;
            Ok(connection(slice, ProjectTotal::CreatedBy(self.0)))
        };
        Some(projects.await)
    }
}

/// A project that was created, updated or deleted.
#[derive(Debug, SimpleObject)]
pub struct ProjectChange {
    /// The ID of the project.
    pub id: ID,
    /// The current project. Null if it was deleted.
    pub project: Option<Project>,
}

/// The subscription to projects.
#[derive(Debug, Default)]
pub struct ProjectSubscription;

#[Subscription]
impl ProjectSubscription {
    /// Sends an event when a project of the current organization is created, updated or deleted.
    /// Several changes in quick succession may arrive as one event.
    #[graphql(directive = on_change::apply(ops::TOPIC.to_owned()))]
    async fn project_changed(&self, ctx: &Context<'_>) -> Result<One<ProjectChange>> {
        let id = ctx.event::<Change>()?.row::<ProjectId>()?;
        let project = ctx.load(ProjectById(id)).await?.map(Project);
        Ok(one(ProjectChange { id: id.0.into(), project }))
    }
}
