//! A document before it is executed: parsed once, measured against the limits, and told apart by
//! what it does.
//!
//! Everything here is linear in the document's size, fragments are measured once however often they
//! are spread, so that no document is expensive to refuse.

use std::{collections::HashSet, ops::Deref, sync::Arc};

use async_graphql::{
    Name, Positioned, Value, Variables,
    parser::{
        parse_query,
        types::{
            BaseType, DocumentOperations, ExecutableDocument, Field, OperationDefinition,
            OperationType, Selection,
        },
    },
};
use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Map;

use super::{
    lexer::scan,
    limits::{Limits, Refusal},
    merge::{Merged, merge},
    size::{Measuring, executed, is_introspection},
    validation::{Checked, Validator},
};
use crate::error::ErrorCode;

/// A GraphQL request as it came over whatever protocol.
#[derive(Clone, Debug, Default)]
pub struct GraphqlRequest {
    /// The document.
    pub query: String,
    /// Which of its operations.
    pub operation_name: Option<String>,
    /// The values of its variables.
    pub variables: Map<String, serde_json::Value>,
}

/// An operation that may be executed with whatever variables fit it: what reading it anew would
/// come to each time.
#[derive(Debug)]
pub struct Operation {
    /// The operation alone, its selections merged; those that a variable decides about are all in
    /// it.
    merged: ExecutableDocument,
    /// The document as it was written, where variables decide about selections.
    written: Option<Written>,
    /// What its author calls it.
    pub name: Option<String>,
    /// SHA-256 of the text and of the operation's name as they were sent.
    pub digest: [u8; 32],
    /// The field that a subscription is to; `None` when it is a query or a mutation.
    pub subscribes_to: Option<String>,
    /// What it changes: the root fields of a mutation; `None` when it is a query or a subscription.
    pub changes: Option<Vec<String>>,
    /// A mutation that asks as well.
    pub reads_back: bool,
    /// It asks for nothing but introspection and `__typename`.
    pub introspection_only: bool,
    /// It asks for introspection.
    pub introspects: bool,
    /// Fields and inline fragments, its selections merged.
    pub selections: usize,
    /// Variables that are null where a request leaves them out.
    optional: Vec<Name>,
    checked: Checked,
}

/// A document that is merged anew for each request.
#[derive(Debug)]
struct Written {
    document: ExecutableDocument,
    operation_name: Option<String>,
    selections: usize,
}

/// An operation with the variables of one request.
#[derive(Debug)]
pub struct Document {
    /// What may be shared between requests.
    pub operation: Arc<Operation>,
    /// The operation as its variables select it, where they decide about selections.
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
    /// Fits the variables of a request to the operation.
    ///
    /// # Errors
    ///
    /// Which of them do not fit.
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
            let Written { document, operation_name, selections } = written;
            let (parsed, _) = select(document, operation_name.as_deref())?;
            merge(parsed, document, validator.schema(), Some(&variables), *selections)
        });
        let selected = selected.transpose()?.map(|merged| merged.document);
        Ok(Self { operation, selected, variables })
    }

    /// What is executed: each response key once for each type.
    #[must_use]
    pub fn executable(&self) -> &ExecutableDocument {
        self.selected.as_ref().unwrap_or(&self.operation.merged)
    }

    /// Whether the variables have a say in what it costs: numbers, which may be sizes of pages, and
    /// conditions.
    #[must_use]
    pub fn cost_varies(&self) -> bool {
        self.merged.operations.iter().any(|(_, operation)| {
            operation.node.variable_definitions.iter().any(|definition| {
                let name = innermost(&definition.node.var_type.node.base);
                // Neither identifiers nor texts nor the inputs of mutations are sizes of pages.
                !["ID", "String"].contains(&name) && !name.ends_with("Input")
            })
        })
    }

    /// It changes something, or tries to.
    #[must_use]
    pub fn is_mutation(&self) -> bool {
        self.changes.is_some()
    }
}

impl Operation {
    /// Reads a document: syntax, limits, the rules of the specification, and those of this server.
    /// `name` chooses one of its operations, `alone` are the mutations that tolerate no other
    /// beside them.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(
        query: &str,
        name: Option<&str>,
        limits: &Limits,
        validator: &Validator,
        alone: &[&str],
    ) -> Result<Self, Vec<Refusal>> {
        // The two parsers disagree about lone carriage returns.
        let text = query.replace("\r\n", "\n").replace('\r', "\n");
        scan(&text, limits)?;
        let checkable = Validator::parse(&text, limits.tokens)?;
        let parsed = parse_query(&text).map_err(|error| Refusal {
            code: ErrorCode::GraphqlParseFailed,
            location: error.positions().next().map(|pos| (pos.line, pos.column)),
            message: "the document is not GraphQL, or defines a name twice".to_owned(),
        })?;
        let mut measuring = Measuring::new(&parsed);
        let written = measuring.document(limits)?;
        let used = measuring.variables;
        let checked = validator.check(&checkable, name)?;

        let (operation, called) = select(&parsed, name)?;
        let optional = optional(&operation.node, &used);
        let ty = operation.node.ty;
        let Merged { document: merged, is_conditional } =
            merge(operation, &parsed, validator.schema(), None, written)?;
        let selections = executed(&merged, limits)?;
        let roots = roots(&merged);
        let is_mutation = ty == OperationType::Mutation;
        let subscribes_to = match (ty, roots.as_slice()) {
            (OperationType::Subscription, [field]) => Some(field.name.node.to_string()),
            (OperationType::Subscription, _) => {
                return Err(vec![Refusal::invalid("a subscription has one root field")]);
            }
            _ => None,
        };
        if is_mutation {
            check_mutation(&roots, limits.root_mutations, alone)?;
        }
        let reads_back = is_mutation && roots.iter().any(|field| field.name.node == "query");
        let introspects = roots.iter().any(|field| is_introspection(field));
        let introspection_only =
            roots.iter().all(|field| is_introspection(field) || field.name.node == "__typename");
        let changes = is_mutation
            .then(|| changes_of(&roots).map(|field| field.name.node.to_string()).collect());
        let written = is_conditional.then(|| Written {
            document: parsed,
            operation_name: name.map(ToOwned::to_owned),
            selections: written,
        });
        Ok(Self {
            merged,
            written,
            name: called,
            digest: digest(query, name),
            subscribes_to,
            changes,
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
    // No text of a document has this byte.
    context.update(&[0xff]);
    context.update(name.unwrap_or_default().as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// The name of a type, without the lists around it.
fn innermost(of: &BaseType) -> &str {
    match of {
        BaseType::Named(name) => name,
        BaseType::List(items) => innermost(&items.base),
    }
}

/// The variables that may be left out, where that is the same as null: in arguments, all of which
/// are optional, but not in the input of a mutation, where a field that is left out stays as it is.
/// The executor's computation of complexity takes a variable that was left out for an error.
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

/// The operation that is asked for, and what its author calls it.
fn select<'document>(
    document: &'document ExecutableDocument,
    name: Option<&str>,
) -> Result<(&'document Positioned<OperationDefinition>, Option<String>), Refusal> {
    let found = match (&document.operations, name) {
        (DocumentOperations::Single(operation), None) => Some((operation, None)),
        (DocumentOperations::Multiple(operations), Some(name)) => operations
            .get_key_value(name)
            .map(|(called, operation)| (operation, Some(called.to_string()))),
        (DocumentOperations::Multiple(operations), None) if operations.len() == 1 => operations
            .iter()
            .next()
            .map(|(called, operation)| (operation, Some(called.to_string()))),
        _ => None,
    };
    found.ok_or_else(|| Refusal::invalid("operationName does not choose one of the operations"))
}

/// The root fields of an operation whose selections are merged.
fn roots(document: &ExecutableDocument) -> Vec<&Field> {
    let sets = document.operations.iter().map(|(_, operation)| &operation.node.selection_set.node);
    let selections = sets.flat_map(|set| &set.items).map(|selection| &selection.node);
    let fields = selections.filter_map(|selection| match selection {
        Selection::Field(field) => Some(&field.node),
        // The root of an operation is an object, so there is nothing left for one type alone.
        Selection::InlineFragment(_) | Selection::FragmentSpread(_) => None,
    });
    fields.collect()
}

/// The root fields of a mutation that change something.
fn changes_of<'roots>(roots: &'roots [&Field]) -> impl Iterator<Item = &'roots Field> {
    let reads = ["__typename", "query"];
    roots.iter().copied().filter(move |field| !reads.contains(&field.name.node.as_str()))
}

fn check_mutation(roots: &[&Field], most: usize, alone: &[&str]) -> Result<(), Refusal> {
    let changes: Vec<_> = changes_of(roots).collect();
    if changes.len() > most {
        return Err(Refusal::too_complex(format!(
            "a mutation may have at most {most} root fields"
        )));
    }
    match changes.iter().find(|field| alone.contains(&field.name.node.as_str())) {
        Some(field) if changes.len() > 1 => Err(Refusal::invalid(format!(
            "{} must be the only field of its mutation",
            field.name.node
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
