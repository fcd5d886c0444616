//! Resources that the model does not know, as their areas declare them. Their mutations have inputs
//! that follow from their types, and run in the phase without a model: nothing of another tenant is
//! shown, and every change has its audit entry.

use std::{fmt::Write as _, sync::LazyLock};

use super::{generator::Generator, model::Mutation, ownership::Kind};
use crate::support::resources::{Resource, further_resources, input, resources};

static ALL: LazyLock<Vec<Resource>> = LazyLock::new(resources);
static FURTHER: LazyLock<Vec<Resource>> = LazyLock::new(further_resources);

/// Their mutations.
pub fn mutations() -> Vec<&'static str> {
    static MUTATIONS: LazyLock<Vec<String>> = LazyLock::new(|| {
        FURTHER.iter().flat_map(|resource| resource.mutations().map(|(name, _)| name)).collect()
    });
    MUTATIONS.iter().map(String::as_str).collect()
}

/// The mutations that create an object, with the action that each records.
pub fn creations() -> Vec<(String, String)> {
    FURTHER.iter().map(|resource| resource.mutations()[0].clone()).collect()
}

/// The field of the object in the payload of a mutation.
pub fn payload_field(mutation: &str) -> Option<&'static str> {
    let uses = |resource: &&Resource| resource.mutations().iter().any(|(name, _)| name == mutation);
    FURTHER.iter().find(uses).map(|resource| resource.field.as_str())
}

/// The subscriptions to their changes.
pub fn subscriptions() -> impl Iterator<Item = String> {
    FURTHER.iter().map(|Resource { field, .. }| format!("{field}Changed {{ id {field} {{ id }} }}"))
}

/// The names of all resources in the counts of rows.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|resource| resource.kind.as_str())
}

/// The number of rows of each resource in each organization, as a query.
pub fn rows() -> String {
    let mut sql = String::new();
    for Resource { kind, table, .. } in ALL.iter() {
        write!(
            sql,
            " UNION ALL SELECT o.id, '{kind}', (SELECT count(*) FROM app.{table} t WHERE t.organization_id = o.id)
              FROM app.organizations o"
        )
        .unwrap();
    }
    sql
}

/// Rows without their audit entry, or with one in another organization, as a query.
pub fn inconsistent() -> String {
    let one = |Resource { kind, table, .. }: &Resource| {
        format!(
            "SELECT '{kind} without its entry' FROM app.{table} t WHERE NOT EXISTS (
                 SELECT FROM audit.audit_logs a WHERE a.organization_id = t.organization_id
                     AND a.resource_id = t.id AND a.action = '{kind}.created')
             UNION ALL SELECT 'deleted {kind} that is there' FROM app.{table} t
                 JOIN audit.audit_logs a ON a.resource_id = t.id WHERE a.action = '{kind}.deleted'
             UNION ALL SELECT 'entry about the {kind} of another organization' FROM audit.audit_logs a
                 JOIN app.{table} t ON t.id = a.resource_id WHERE t.organization_id <> a.organization_id"
        )
    };
    ALL.iter().map(one).collect::<Vec<_>>().join(" UNION ALL ")
}

impl Generator<'_> {
    /// Chooses an input of a mutation, with ids of anything where an id can stand.
    pub fn further_change(&mut self, name: &'static str) -> Mutation {
        let text = format!("Further {} {}", self.rng.u32(..), self.here.tag);
        let input = input(name, &text, |field, is_required| {
            let kind = match field {
                "id" => Kind::Further,
                "projectId" => Kind::Project,
                // What it refers to is unknown here.
                _ => *self.rng.choice(&[Kind::Further, Kind::Member, Kind::Project]).unwrap(),
            };
            (is_required || self.rng.bool()).then(|| self.id(kind))
        });
        Mutation { name, input }
    }
}
