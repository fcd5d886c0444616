//! A document before its execution: parsed once, checked against the limits, and classified by what
//! it does.
//!
//! All work here is linear in the size of the document. Each fragment is measured once, however
//! often it is spread, so no document is expensive to reject.

use std::{collections::HashSet, ops::Deref, sync::Arc};

use async_graphql::{
    Name, Pos, Positioned, Value, Variables,
    parser::types::{
        BaseType, ExecutableDocument, Field, OperationDefinition, OperationType, Selection,
        SelectionSet,
    },
};
use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Map;

use super::{
    collect_fields::{Merged, merge, unknown},
    document_size::{Measuring, executed, is_introspection},
    executable::executable,
    limits::{Limits, Refusal},
    prescan::scan,
    root_fields::{MutationTraits, SubscriptionTraits},
    validation::{Checked, Validator},
};

/// A GraphQL request, from any transport.
#[derive(Clone, Debug, Default)]
pub struct GraphqlRequest {
    /// The document.
    pub query: String,
    /// The name of the operation to execute.
    pub operation_name: Option<String>,
    /// The values of the variables.
    pub variables: Map<String, serde_json::Value>,
}

/// A validated operation, independent of the values of its variables. It can be cached and executed
/// many times.
#[derive(Debug)]
pub struct Operation {
    /// The operation alone, with its selections merged. Selections that depend on a variable are
    /// included.
    merged: ExecutableDocument,
    /// The document as written, if selections depend on variables.
    written: Option<Written>,
    /// The operation's name in the document.
    pub name: Option<String>,
    /// SHA-256 of the text and of the operation's name as sent.
    pub digest: [u8; 32],
    /// The traits of a subscription. `None` for a query or a mutation.
    pub subscribes_to: Option<SubscriptionTraits>,
    /// The root fields of a mutation that make changes. `None` for a query or a subscription.
    pub changes: Option<Vec<RootMutation>>,
    /// The number of its queries that count as attempts, those in a mutation included.
    pub rate_limited_queries: usize,
    /// Whether it is a mutation that also queries.
    pub reads_back: bool,
    /// Whether it selects only introspection and `__typename`.
    pub introspection_only: bool,
    /// Whether it selects introspection.
    pub introspects: bool,
    /// The number of fields and inline fragments after merging.
    pub selections: usize,
    /// Variables that are null if a request omits them.
    optional: Vec<Name>,
    checked: Checked,
}

/// A root field that makes a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootMutation {
    /// The name of the field.
    pub name: String,
    /// What its directives say.
    pub traits: MutationTraits,
}

/// A document that is merged again for each request.
#[derive(Debug)]
struct Written {
    document: ExecutableDocument,
    selections: usize,
}

/// An operation with the variables of one request.
#[derive(Debug)]
pub struct Document {
    /// The part that requests share.
    pub operation: Arc<Operation>,
    /// The operation as selected by its variables, if selections depend on them.
    selected: Option<ExecutableDocument>,
    /// The variables, with the types and defaults that the operation declares.
    pub variables: Variables,
}

impl Deref for Document {
    type Target = Operation;

    fn deref(&self) -> &Operation {
        &self.operation
    }
}

impl Document {
    /// Coerces the variables of a request to the types of the operation.
    ///
    /// # Errors
    ///
    /// Returns the variables that do not match.
    pub fn new(
        operation: Arc<Operation>,
        validator: &Validator,
        variables: Map<String, serde_json::Value>,
    ) -> Result<Self, Vec<Refusal>> {
        let mut variables = validator.coerce(&operation.checked, variables)?;
        for name in &operation.optional {
            variables.entry(name.clone()).or_insert(Value::Null);
        }
        let selected = operation.written.as_ref().map(|written| {
            let Written { document, selections } = written;
            let parsed = select(document, &operation.checked)?;
            merge(parsed, document, validator.schema(), Some(&variables), *selections)
        });
        let selected = selected.transpose()?.map(|merged| merged.document);
        Ok(Self { operation, selected, variables })
    }

    /// The document to execute: each response key appears once for each type.
    #[must_use]
    pub fn executable(&self) -> &ExecutableDocument {
        self.selected.as_ref().unwrap_or(&self.operation.merged)
    }

    /// The place of the operation in the document.
    #[must_use]
    pub fn place(&self) -> Pos {
        let mut operations = self.executable().operations.iter();
        operations.next().map_or_else(Pos::default, |(_, operation)| operation.pos)
    }

    /// Returns an argument of a root field as its resolver receives it, or `None` if it is omitted.
    #[must_use]
    pub fn root_argument(&self, field: &str, argument: &str) -> Option<Value> {
        let root = roots(self.executable()).into_iter().find(|root| root.name.node == field)?;
        let value = root.get_argument(argument)?.node.clone();
        value.into_const_with(|name| self.variables.get(&name).cloned().ok_or(())).ok()
    }

    /// Returns whether the complexity can depend on the variables, which may be page sizes, lists
    /// or conditions.
    #[must_use]
    pub fn cost_varies(&self) -> bool {
        self.merged.operations.iter().any(|(_, operation)| {
            operation.node.variable_definitions.iter().any(|definition| {
                match &definition.node.var_type.node.base {
                    // These types cannot be page sizes: IDs, strings and the inputs of mutations.
                    BaseType::Named(name) => {
                        !["ID", "String"].contains(&name.as_str()) && !name.ends_with("Input")
                    }
                    BaseType::List(_) => true,
                }
            })
        })
    }

    /// Whether it is a mutation.
    #[must_use]
    pub fn is_mutation(&self) -> bool {
        self.changes.is_some()
    }
}

impl Operation {
    /// Parses a document and checks its syntax, the limits, the specification's validation and this
    /// server's. `name` selects one of its operations.
    ///
    /// # Errors
    ///
    /// Returns the problems of the document.
    pub fn read(
        query: &str,
        name: Option<&str>,
        limits: &Limits,
        validator: &Validator,
    ) -> Result<Self, Vec<Refusal>> {
        // Errors count lines by line feeds.
        let text = query.replace("\r\n", "\n").replace('\r', "\n");
        scan(&text, limits)?;
        let checkable = Validator::parse(&text, limits.tokens)?;
        let parsed = executable(&checkable, &text)?;
        let mut measuring = Measuring::new(&parsed);
        let written = measuring.document(limits)?;
        let used = measuring.variables;
        let checked = validator.check(&checkable, name)?;

        let operation = select(&parsed, &checked)?;
        let optional = optional(&operation.node, &used);
        let ty = operation.node.ty;
        let Merged { document: merged, is_conditional } =
            merge(operation, &parsed, validator.schema(), None, written)?;
        let selections = executed(&merged, limits)?;
        let roots = roots(&merged);
        let is_mutation = ty == OperationType::Mutation;
        let subscribes_to = match (ty, roots.as_slice()) {
            (OperationType::Subscription, [field]) => {
                validator.root_fields().subscription(&field.name.node).cloned()
            }
            _ => None,
        };
        if ty == OperationType::Subscription && subscribes_to.is_none() {
            let message = "A subscription must have exactly one root field.";
            return Err(vec![Refusal::invalid_at(operation.pos, message)]);
        }
        let changes = is_mutation.then(|| changes_of(&roots, validator));
        let most = limits.root_mutations;
        check_changes(changes.as_deref().unwrap_or_default(), most, operation.pos)?;
        let reads_back = is_mutation && roots.iter().any(|field| field.name.node == "query");
        let introspection_only =
            roots.iter().all(|field| is_introspection(field) || field.name.node == "__typename");
        let queries: Vec<_> = match ty {
            OperationType::Query => roots.clone(),
            _ => roots
                .iter()
                .filter(|field| field.name.node == "query")
                .flat_map(|field| selected(&field.selection_set.node))
                .collect(),
        };
        let introspects = queries.iter().any(|field| is_introspection(field));
        let is_rate_limited =
            |field: &&&Field| validator.root_fields().is_rate_limited_query(&field.name.node);
        let rate_limited_queries = queries.iter().filter(is_rate_limited).count();
        let written = is_conditional.then(|| Written { document: parsed, selections: written });
        Ok(Self {
            merged,
            written,
            name: checked.operation.name.as_ref().map(ToString::to_string),
            digest: digest(query, name),
            subscribes_to,
            changes,
            rate_limited_queries,
            reads_back,
            introspection_only,
            introspects,
            selections,
            optional,
            checked,
        })
    }
}

fn digest(query: &str, name: Option<&str>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(query.as_bytes());
    // No document contains this byte.
    context.update(&[0xff]);
    context.update(name.unwrap_or_default().as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// The variables for which omission equals null. This holds for arguments of fields, which are all
/// optional. It does not hold in the input of a mutation, where an omitted field stays unchanged.
/// The executor's complexity calculation rejects an omitted variable.
fn optional(operation: &OperationDefinition, used: &HashSet<Name>) -> Vec<Name> {
    let definitions = operation.variable_definitions.iter().map(|definition| &definition.node);
    definitions
        .filter(|definition| {
            definition.var_type.node.nullable && definition.default_value.is_none()
        })
        .map(|definition| definition.name.node.clone())
        .filter(|name| used.contains(name))
        .collect()
}

/// Finds the operation that the validator selected.
fn select<'document>(
    document: &'document ExecutableDocument,
    checked: &Checked,
) -> Result<&'document Positioned<OperationDefinition>, Refusal> {
    let selected = checked.operation.name.as_ref().map(apollo_compiler::Name::as_str);
    let mut operations = document.operations.iter();
    let found = operations.find(|(name, _)| name.map(Name::as_str) == selected);
    found.map(|(_, operation)| operation).ok_or_else(|| unknown("operation"))
}

/// The root fields of a merged operation.
fn roots(document: &ExecutableDocument) -> Vec<&Field> {
    let sets = document.operations.iter().map(|(_, operation)| &operation.node.selection_set.node);
    sets.flat_map(selected).collect()
}

/// The fields of a merged selection on an object, where merging leaves no fragment.
fn selected(set: &SelectionSet) -> impl Iterator<Item = &Field> {
    set.items.iter().filter_map(|selection| match &selection.node {
        Selection::Field(field) => Some(&field.node),
        Selection::InlineFragment(_) | Selection::FragmentSpread(_) => None,
    })
}

/// The root fields of a mutation that make changes.
fn changes_of(roots: &[&Field], validator: &Validator) -> Vec<RootMutation> {
    let names = roots.iter().map(|field| field.name.node.as_str());
    let changes = names.filter(|name| !["__typename", "query"].contains(name));
    let traits = |name| validator.root_fields().mutation(name);
    changes.map(|name| RootMutation { name: name.to_owned(), traits: traits(name) }).collect()
}

fn check_changes(changes: &[RootMutation], most: usize, place: Pos) -> Result<(), Refusal> {
    if changes.len() > most {
        let message = format!(
            "A mutation may have at most {most} root fields. Split it into several requests."
        );
        return Err(Refusal::too_complex_at(place, message));
    }
    match changes.iter().find(|change| change.traits.alone.is_some()) {
        Some(alone) if changes.len() > 1 => {
            let message = format!("`{}` must be the only field of its mutation.", alone.name);
            Err(Refusal::invalid_at(place, message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
pub(super) mod tests;
