//! What usage contributes to the API.

use super::graphql::{UsageMutation, UsageOfOrganization, UsageSubscription};
use crate::{
    area::Area,
    graphql::NoFields,
    permission::{Permission, permissions},
};

permissions! {
    /// Count usage of meters with `consumeUsage` and `recordUsage`.
    UsageRecord = "USAGE_RECORD" from Admin;
}

/// The area.
#[derive(Debug)]
pub struct UsageArea;

impl Area for UsageArea {
    type Query = NoFields;
    type Mutation = UsageMutation;
    type Subscription = UsageSubscription;
    type OrganizationFields = UsageOfOrganization;

    fn permissions() -> Vec<Permission> {
        PERMISSIONS.to_vec()
    }
}
