//! What usage contributes to the API.

use entity::{FeatureKind, FeaturePeriod};

use super::{
    API_CALLS_PER_MONTH,
    graphql::{UsageMutation, UsageOfOrganization, UsageSubscription},
};
use crate::{
    area::Area,
    graphql::NoFields,
    permission::{Permission, permissions},
    tenancy::DeclaredFeature,
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

    const PERMISSIONS: &'static [Permission] = PERMISSIONS;

    fn features() -> Vec<DeclaredFeature> {
        vec![(API_CALLS_PER_MONTH, FeatureKind::Meter, Some(FeaturePeriod::Month))]
    }
}
