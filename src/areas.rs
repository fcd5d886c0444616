//! The areas of the API. Registering one here makes it part of the schema, the policy, the audit
//! log and the plans.

use crate::{
    action::Action,
    area::{Limit, areas, declared_by, extended},
    audit::AuditArea,
    billing::BillingArea,
    graphql::{Extended, NoFields, NodeType},
    invitation::InvitationArea,
    member::{Member, MemberArea},
    organization::{Organization, OrganizationArea},
    permission::Permission,
    plan::PlanArea,
    project::{Project, ProjectArea, ProjectsOfMember},
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
        ProjectArea,
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

extended! {
    // The fields that areas add to the types of others.
    Member { FieldsOfMember } = ProjectsOfMember;
    Project { FieldsOfProject } = NoFields;
}
