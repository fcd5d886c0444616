//! The product that is built on tenantry: its areas, and what they add to the types of tenantry and
//! of each other. Nothing of tenantry but its list of areas and its demo reads this folder.

use crate::{
    area::{areas, extended},
    graphql::NoFields,
    member::Member,
};

pub mod project;

areas! {
    /// The areas of the product, in the order of their fields in the schema.
    AppAreas { AppQuery, AppMutation, AppSubscription, AppOrganizationFields } =
        project::ProjectArea,
}

extended! {
    // The fields that areas add to the types of others.
    Member { FieldsOfMember } = project::ProjectsOfMember;
    project::Project { FieldsOfProject } = NoFields;
}

/// The rows of the demo, which has two organizations with users already.
pub(crate) const DEMO: &str = include_str!("demo.sql");

/// What the first request of the demo selects of an organization.
pub(crate) const DEMO_FIELDS: &str = "name projects { nodes { name } }";
