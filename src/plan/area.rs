//! What plans contribute to the API.

use super::graphql::{PlanOfOrganization, PlanQuery};
use crate::{area::Area, graphql::NoFields};

/// The area.
#[derive(Debug)]
pub struct PlanArea;

impl Area for PlanArea {
    type Query = PlanQuery;
    type Mutation = NoFields;
    type Subscription = NoFields;
    type OrganizationFields = PlanOfOrganization;
}
