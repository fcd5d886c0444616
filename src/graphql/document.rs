//! A document before it is executed: parsed once, measured against the limits, and told apart by what it does.
//!
//! Everything here is linear in the document's size, fragments are measured once however often they are spread,
//! so that no document is expensive to refuse.

use std::{
    collections::{HashMap, HashSet},
    ops::Deref,
    sync::Arc,
};

use async_graphql::{
    Name, Positioned, Value, Variables,
    parser::{
        parse_query,
        types::{
            BaseType, DocumentOperations, ExecutableDocument, Field, InlineFragment,
            OperationDefinition, OperationType, Selection, SelectionSet,
        },
    },
};
use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Map;

use super::{
    limits::{Limits, Refusal},
    measure::{Measuring, is_introspection},
    rules::{Checked, Rules},
    scan::scan,
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

/// An operation that may be executed with whatever variables fit it: what reading it anew would come to each time.
#[derive(Debug)]
pub struct Operation {
    /// The operation alone, its fragments spread out.
    pub parsed: ExecutableDocument,
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
    /// Fields, spreads and inline fragments, with its fragments spread out.
    pub selections: usize,
    /// Variables that are null where a request leaves them out.
    optional: Vec<Name>,
    checked: Checked,
}

/// An operation with the variables of one request.
#[derive(Debug)]
pub struct Document {
    /// What may be shared between requests.
    pub operation: Arc<Operation>,
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
        rules: &Rules,
        variables: Map<String, serde_json::Value>,
    ) -> Result<Self, Vec<Refusal>> {
        let mut variables = rules.coerce(&operation.checked, variables)?;
        for name in &operation.optional {
            variables.entry(name.clone()).or_insert(Value::Null);
        }
        Ok(Self { operation, variables })
    }

    /// Whether the variables have a say in what it costs: numbers, which may be sizes of pages, and conditions.
    #[must_use]
    pub fn cost_varies(&self) -> bool {
        self.parsed.operations.iter().any(|(_, operation)| {
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
    /// Reads a document: syntax, limits, the rules of the specification, and those of this server. `name` chooses one of its
    /// operations, `alone` are the mutations that tolerate no other beside them.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(
        query: &str,
        name: Option<&str>,
        limits: &Limits,
        rules: &Rules,
        alone: &[&str],
    ) -> Result<Self, Vec<Refusal>> {
        // The two parsers disagree about lone carriage returns.
        let text = query.replace("\r\n", "\n").replace('\r', "\n");
        scan(&text, limits)?;
        let checkable = Rules::parse(&text, limits.tokens)?;
        let parsed = parse_query(&text).map_err(|error| Refusal {
            code: ErrorCode::GraphqlParseFailed,
            location: error.positions().next().map(|pos| (pos.line, pos.column)),
            message: "the document is not GraphQL, or defines a name twice".to_owned(),
        })?;
        let mut measuring = Measuring::new(&parsed);
        let selections = measuring.document(limits)?;
        let used = measuring.variables;
        let checked = rules.check(&checkable, name)?;

        let (operation, called) = select(&parsed, name)?;
        let optional = optional(&operation.node, &used);
        let mut roots = Vec::new();
        let operation = spread_out(operation, &parsed);
        collect_roots(&operation.node.selection_set.node, &mut roots);
        let is_mutation = operation.node.ty == OperationType::Mutation;
        let subscribes_to = match (operation.node.ty, roots.as_slice()) {
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
        // The executor looks for the one field of a subscription right at the root, not in fragments.
        let root = (operation.node.ty == OperationType::Subscription)
            .then(|| roots.first().map(|field| (*field).clone()))
            .flatten();
        drop(roots);
        let mut operation = operation;
        if let Some(field) = root {
            let field = Positioned::new(field, operation.pos);
            let selection = Positioned::new(Selection::Field(field), operation.pos);
            operation.node.selection_set.node.items = vec![selection];
        }
        let parsed = ExecutableDocument {
            operations: DocumentOperations::Single(operation),
            fragments: HashMap::default(),
        };
        Ok(Self {
            parsed,
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

/// An operation with its fragments spread out, as inline fragments: the executor does not hold named fragments to its
/// limits where they are spread on an interface. Their number was measured before.
fn spread_out(
    operation: &Positioned<OperationDefinition>,
    document: &ExecutableDocument,
) -> Positioned<OperationDefinition> {
    let mut operation = operation.clone();
    spread_out_set(&mut operation.node.selection_set.node, document);
    operation
}

fn spread_out_set(set: &mut SelectionSet, document: &ExecutableDocument) {
    for selection in &mut set.items {
        match &mut selection.node {
            Selection::Field(field) => {
                spread_out_set(&mut field.node.selection_set.node, document);
            }
            Selection::InlineFragment(fragment) => {
                spread_out_set(&mut fragment.node.selection_set.node, document);
            }
            Selection::FragmentSpread(spread) => {
                let Some(fragment) = document.fragments.get(&spread.node.fragment_name.node) else {
                    continue;
                };
                let mut inline = InlineFragment {
                    type_condition: Some(fragment.node.type_condition.clone()),
                    directives: std::mem::take(&mut spread.node.directives),
                    selection_set: fragment.node.selection_set.clone(),
                };
                spread_out_set(&mut inline.selection_set.node, document);
                selection.node = Selection::InlineFragment(Positioned::new(inline, spread.pos));
            }
        }
    }
}

/// The variables that may be left out, where that is the same as null: in arguments, all of which are optional, but not
/// in the input of a mutation, where a field that is left out stays as it is. The executor's computation of complexity
/// takes a variable that was left out for an error.
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

/// The root fields of an operation whose fragments are spread out.
fn collect_roots<'document>(set: &'document SelectionSet, roots: &mut Vec<&'document Field>) {
    for selection in &set.items {
        match &selection.node {
            Selection::Field(field) => roots.push(&field.node),
            Selection::InlineFragment(fragment) => {
                collect_roots(&fragment.node.selection_set.node, roots);
            }
            Selection::FragmentSpread(_) => {}
        }
    }
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
    // The executor would run a field that stands twice under one name twice.
    let mut names = HashSet::new();
    for field in &changes {
        let name = &field.response_key().node;
        if !names.insert(name) {
            return Err(Refusal::invalid(format!(
                "the mutation selects \"{name}\" twice: select it once, or give each an alias"
            )));
        }
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
