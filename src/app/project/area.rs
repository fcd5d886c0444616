//! What projects contribute to the API.

use async_graphql::SchemaBuilder;
use entity::app::project;

use super::{
    graphql::{Project, ProjectConnection, ProjectSubscription, ProjectsOfOrganization},
    mutation_graphql::ProjectMutation,
    ops,
};
use crate::{
    action::{Action, actions},
    area::{Area, Limit},
    graphql::{NoFields, NodeType},
    permission::{Permission, permissions},
};

permissions! {
    /// Create projects.
    ProjectCreate = "PROJECT_CREATE" from Member;
    /// Update projects.
    ProjectUpdate = "PROJECT_UPDATE" from Member;
    /// Delete projects.
    ProjectDelete = "PROJECT_DELETE" from Admin;
}

actions! {
    /// A project was created.
    ProjectCreated = "project.created" with "`name`";
    /// A project was changed.
    ProjectUpdated = "project.updated" with "`name`, and old and new values";
    /// A project was deleted.
    ProjectDeleted = "project.deleted" with "`name`";
}

/// The area.
#[derive(Debug)]
pub struct ProjectArea;

impl Area for ProjectArea {
    type Query = NoFields;
    type Mutation = ProjectMutation;
    type Subscription = ProjectSubscription;
    type OrganizationFields = ProjectsOfOrganization;

    const PERMISSIONS: &'static [Permission] = PERMISSIONS;
    const ACTIONS: &'static [Action] = ACTIONS;

    fn limits() -> Vec<Limit> {
        vec![Limit { feature: ops::PROJECTS, count: || ops::IN_USE }]
    }

    fn nodes() -> Vec<NodeType> {
        vec![NodeType::of::<Project, project::Model>(
            Permission::OrganizationRead,
            "projects",
            || "organization_id = $2",
        )]
    }

    fn describe<Q, M, S>(schema: SchemaBuilder<Q, M, S>) -> SchemaBuilder<Q, M, S> {
        schema.override_output_type_description::<ProjectConnection>("A page of projects.")
    }
}
