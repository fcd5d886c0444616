//! What organizations contribute to the API.

use entity::organization;

use super::{
    graphql::{Organization, OrganizationQuery},
    mutation_graphql::OrganizationMutation,
};
use crate::{
    action::{Action, actions},
    area::Area,
    graphql::{NoFields, NodeType},
    permission::{Permission, permissions},
};

permissions! {
    /// Read the organization, its plan, members, projects, limits and usage.
    OrganizationRead = "ORGANIZATION_READ" from Viewer;
    /// Rename the organization.
    OrganizationUpdate = "ORGANIZATION_UPDATE" from Admin;
    /// Change the organization's slug.
    OrganizationUpdateSlug = "ORGANIZATION_UPDATE_SLUG" from Owner;
    /// Delete the organization.
    OrganizationDelete = "ORGANIZATION_DELETE" from Owner;
}

actions! {
    /// An organization was created.
    OrganizationCreated = "organization.created" with "`name`, `slug`";
    /// An organization was changed.
    OrganizationUpdated = "organization.updated" with "old and new values";
    /// An organization was deleted.
    OrganizationDeleted = "organization.deleted" with "`name`, `slug`";
    /// The operator moved the organization to another place.
    OrganizationMoved = "organization.moved" with "`from`, `to`, `rows`";
    /// The operator exported the whole organization.
    OrganizationExported = "organization.exported" with "none";
    /// The operator restored the organization from an export.
    OrganizationRestored = "organization.restored"
        with "`exported_at`, `rows`, `signed` (the signature was verified)";
    /// The operator suspended the organization.
    OrganizationSuspended = "organization.suspended" with "`suspension` (`full` or `read-only`)";
    /// The operator ended the suspension.
    OrganizationResumed = "organization.resumed" with "the former `suspension`";
    /// An owner transferred the ownership.
    OrganizationTransferred = "organization.transferred"
        with "`user_id`, `name` and `old_role` of the new owner";
}

/// The area.
#[derive(Debug)]
pub struct OrganizationArea;

impl Area for OrganizationArea {
    type Query = OrganizationQuery;
    type Mutation = OrganizationMutation;
    type Subscription = NoFields;
    type OrganizationFields = NoFields;

    const PERMISSIONS: &'static [Permission] = PERMISSIONS;
    const ACTIONS: &'static [Action] = ACTIONS;

    fn nodes() -> Vec<NodeType> {
        vec![NodeType::of::<Organization, organization::Model>(
            Permission::OrganizationRead,
            "organizations",
            || "organizations.id = $2",
        )]
    }
}
