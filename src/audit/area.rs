//! What the audit log contributes to the API.

use async_graphql::SchemaBuilder;

use super::graphql::{AuditLogConnection, AuditOfOrganization, AuditQuery, AuditSubscription};
use crate::{
    action::{Action, actions},
    area::Area,
    graphql::NoFields,
    permission::{Permission, permissions},
};

permissions! {
    /// Read the audit log.
    AuditLogRead = "AUDIT_LOG_READ" from Admin;
}

actions! {
    /// The operator exported the audit log.
    AuditExported = "audit.exported" with "`format`, `since`, `until`";
    /// The operator deleted old entries.
    AuditPruned = "audit.pruned" with "`before`, `entries`";
}

/// The area.
#[derive(Debug)]
pub struct AuditArea;

impl Area for AuditArea {
    type Query = AuditQuery;
    type Mutation = NoFields;
    type Subscription = AuditSubscription;
    type OrganizationFields = AuditOfOrganization;

    const PERMISSIONS: &'static [Permission] = PERMISSIONS;
    const ACTIONS: &'static [Action] = ACTIONS;

    fn describe<Q, M, S>(schema: SchemaBuilder<Q, M, S>) -> SchemaBuilder<Q, M, S> {
        schema.override_output_type_description::<AuditLogConnection>("A page of the audit log.")
    }
}
