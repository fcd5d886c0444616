//! The areas of tenantry, and those of the product that is built on it (`app`). Registering one
//! makes it part of the schema, the policy, the audit log and the plans.

use crate::{
    action::Action,
    app::AppAreas,
    area::{Limit, areas, declared_by},
    audit::AuditArea,
    billing::BillingArea,
    graphql::{Extended, NodeType},
    invitation::InvitationArea,
    member::MemberArea,
    organization::{Organization, OrganizationArea},
    permission::Permission,
    plan::PlanArea,
    tenancy::DeclaredFeature,
    usage::UsageArea,
    user::UserArea,
};

areas! {
    /// All areas, in the order of their fields in the schema.
    Areas { AreaQuery, AreaMutation, AreaSubscription, OrganizationFields } =
        UserArea,
        OrganizationArea,
        MemberArea,
        InvitationArea,
        PlanArea,
        UsageArea,
        BillingArea,
        AuditArea,
        AppAreas,
}

declared_by!(
    Areas: Permission = permissions, Action = actions, Limit = limits, DeclaredFeature = features,
    NodeType = nodes,
);

impl Extended for Organization {
    type Fields = OrganizationFields;
}

impl From<&Organization> for OrganizationFields {
    fn from(_: &Organization) -> Self {
        Self::default()
    }
}
