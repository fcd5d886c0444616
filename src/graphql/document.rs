//! A document before it is executed: parsed once, measured against the limits, and told apart by what it does.
//!
//! Everything here is linear in the document's size, fragments are measured once however often they are spread,
//! so that no document is expensive to refuse.

use std::collections::HashSet;

use async_graphql::{
    Name,
    parser::{
        parse_query,
        types::{
            DocumentOperations, ExecutableDocument, Field, OperationDefinition, OperationType,
            Selection, SelectionSet,
        },
    },
};

use super::{measure::Measuring, scan::scan};
use crate::error::ErrorCode;

/// Selections, lists and objects may nest this deep in the text; beyond it a parser's stack is at risk.
pub(super) const MAX_NESTING: usize = 100;

/// Limits on a document, all of them settings.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Lexical tokens.
    pub tokens: usize,
    /// Levels of fields.
    pub depth: usize,
    /// Levels of fields in introspection.
    pub introspection_depth: usize,
    /// Fields, each counted as often as the pages around it may repeat it.
    pub complexity: usize,
    /// Aliases, those in spread fragments counted each time.
    pub aliases: usize,
    /// Root fields of a mutation.
    pub root_mutations: usize,
}

/// Why a document is not executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One of the codes of a refused document.
    pub code: ErrorCode,
    /// What is wrong with it.
    pub message: String,
    /// Where in the text, as `(line, column)`.
    pub location: Option<(usize, usize)>,
}

impl Refusal {
    /// Not valid for this schema.
    pub fn invalid(message: impl Into<String>) -> Self {
        let code = ErrorCode::GraphqlValidationFailed;
        Self { code, message: message.into(), location: None }
    }

    /// Past a limit.
    pub fn too_complex(message: impl Into<String>) -> Self {
        let code = ErrorCode::QueryTooComplex;
        Self { code, message: message.into(), location: None }
    }
}

/// A document that may be validated and executed.
#[derive(Debug)]
pub struct Document {
    /// The parsed text.
    pub parsed: ExecutableDocument,
    /// It is a mutation, otherwise a query.
    pub is_mutation: bool,
    /// It asks for nothing but introspection and `__typename`.
    pub introspection_only: bool,
    /// It asks for introspection.
    pub introspects: bool,
    /// Variables of which leaving them out means null.
    pub optional_variables: Vec<Name>,
}

impl Document {
    /// Parses and measures a text; `alone` are the mutations that tolerate no other beside them.
    ///
    /// # Errors
    ///
    /// When it is no GraphQL, passes a limit, or has no such operation.
    pub fn read(
        text: &str,
        operation_name: Option<&str>,
        limits: &Limits,
        alone: &[&str],
    ) -> Result<Self, Refusal> {
        scan(text, limits)?;
        let parsed = parse_query(text).map_err(|error| Refusal {
            code: ErrorCode::GraphqlParseFailed,
            location: error.positions().next().map(|pos| (pos.line, pos.column)),
            message: error.to_string(),
        })?;
        let mut measuring = Measuring::new(&parsed);
        for (_, operation) in parsed.operations.iter() {
            measuring.operation(&operation.node)?.check(limits)?;
        }
        let used = measuring.variables;
        let operation = select(&parsed, operation_name)?;
        let is_mutation = match operation.ty {
            OperationType::Query => false,
            OperationType::Mutation => true,
            OperationType::Subscription => {
                return Err(Refusal::invalid("subscriptions are not served over this transport"));
            }
        };
        let mut roots = Vec::new();
        collect_roots(&parsed, &operation.selection_set.node, &mut roots, limits.complexity)?;
        if is_mutation {
            check_mutation(&roots, limits.root_mutations, alone)?;
        }
        let introspects = roots.iter().any(|field| is_introspection(field));
        let introspection_only =
            roots.iter().all(|field| is_introspection(field) || field.name.node == "__typename");
        let optional_variables = optional(operation, &used);
        Ok(Self { parsed, is_mutation, introspection_only, introspects, optional_variables })
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

pub(super) fn is_introspection(field: &Field) -> bool {
    field.name.node == "__schema" || field.name.node == "__type"
}

fn select<'document>(
    document: &'document ExecutableDocument,
    name: Option<&str>,
) -> Result<&'document OperationDefinition, Refusal> {
    match (&document.operations, name) {
        (DocumentOperations::Single(operation), None) => Ok(&operation.node),
        (DocumentOperations::Multiple(operations), Some(name)) => operations
            .get(name)
            .map(|operation| &operation.node)
            .ok_or_else(|| Refusal::invalid("the document has no operation of the given name")),
        (DocumentOperations::Multiple(operations), None) if operations.len() == 1 => operations
            .values()
            .next()
            .map(|operation| &operation.node)
            .ok_or_else(|| Refusal::invalid("the document has no operation")),
        (DocumentOperations::Multiple(_), None) => Err(Refusal::invalid(
            "the document has several operations: operationName must choose one",
        )),
        (DocumentOperations::Single(_), Some(_)) => {
            Err(Refusal::invalid("the document has no operation of the given name"))
        }
    }
}

/// The root fields, fragments spread out; cycles were refused before, and the number is bounded by the measure.
fn collect_roots<'document>(
    document: &'document ExecutableDocument,
    set: &'document SelectionSet,
    roots: &mut Vec<&'document Field>,
    most: usize,
) -> Result<(), Refusal> {
    for selection in &set.items {
        match &selection.node {
            Selection::Field(field) => roots.push(&field.node),
            Selection::InlineFragment(fragment) => {
                collect_roots(document, &fragment.node.selection_set.node, roots, most)?;
            }
            Selection::FragmentSpread(spread) => {
                if let Some(fragment) = document.fragments.get(&spread.node.fragment_name.node) {
                    collect_roots(document, &fragment.node.selection_set.node, roots, most)?;
                }
            }
        }
        if roots.len() > most {
            return Err(Refusal::too_complex("the document has too many root fields"));
        }
    }
    Ok(())
}

fn check_mutation(roots: &[&Field], most: usize, alone: &[&str]) -> Result<(), Refusal> {
    let changes: Vec<_> = roots.iter().filter(|field| field.name.node != "__typename").collect();
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
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        tokens: 5_000,
        depth: 12,
        introspection_depth: 20,
        complexity: 10_000,
        aliases: 30,
        root_mutations: 10,
    };

    fn read(text: &str) -> Result<Document, Refusal> {
        Document::read(text, None, &LIMITS, &["createOrganization"])
    }

    fn refused(text: &str) -> ErrorCode {
        read(text).unwrap_err().code
    }

    #[test]
    fn a_doubling_bomb_of_fragments_is_refused_at_once() {
        let mut text = "{ ...f0 }".to_owned();
        for level in 0..60 {
            use std::fmt::Write as _;
            let next = level + 1;
            write!(text, " fragment f{level} on Query {{ ...f{next} ...f{next} }}").unwrap();
        }
        text.push_str(" fragment f60 on Query { viewer { id } }");
        assert_eq!(refused(&text), ErrorCode::QueryTooComplex);
    }

    #[test]
    fn cycles_and_chains_of_fragments_are_refused() {
        assert_eq!(
            refused("{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }"),
            ErrorCode::GraphqlValidationFailed
        );
        let chain: Vec<_> =
            (0..1_000).map(|n| format!("fragment f{n} on Query {{ ...f{} }}", n + 1)).collect();
        assert_eq!(
            refused(&format!("{{ ...f0 }} {}", chain.join(" "))),
            ErrorCode::QueryTooComplex
        );
    }

    #[test]
    fn nesting_is_refused_before_it_is_parsed() {
        assert_eq!(refused(&"{a".repeat(2_000)), ErrorCode::QueryTooComplex);
        assert_eq!(refused(&format!("{{a(b:{}", "[".repeat(2_000))), ErrorCode::QueryTooComplex);
        assert_eq!(refused(&format!("{{{}}}", "a ".repeat(6_000))), ErrorCode::QueryTooComplex);
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_nest() {
        let brackets = "[".repeat(500);
        let text =
            format!("# {brackets}\n{{ a(b: \"{brackets}\\\"\", c: \"\"\"{brackets}\"\"\") }}");
        assert!(read(&text).is_ok());
    }

    #[test]
    fn depth_counts_fields_and_not_introspection() {
        let nested = |name: &str, levels| {
            (0..levels).fold(String::new(), |inner, _| format!("{{ {name} {inner} }}"))
        };
        assert!(read(&nested("a", 12)).is_ok());
        assert_eq!(refused(&nested("a", 13)), ErrorCode::QueryTooComplex);
        let schema = format!("{{ __schema {} }}", nested("ofType", 15));
        assert!(read(&schema).unwrap().introspection_only);
        let schema = format!("{{ __schema {} }}", nested("ofType", 25));
        assert_eq!(refused(&schema), ErrorCode::QueryTooComplex);
    }

    #[test]
    fn what_opens_no_transaction_is_told_apart() {
        assert!(read("{ __typename }").unwrap().introspection_only);
        assert!(
            read("{ ...r } fragment r on Query { __schema { queryType { name } } }")
                .unwrap()
                .introspection_only
        );
        let mixed = read("{ __schema { queryType { name } } viewer { id } }").unwrap();
        assert!(!mixed.introspection_only && mixed.introspects);
    }

    #[test]
    fn a_mutation_is_held_to_its_rules() {
        assert_eq!(
            refused("mutation { a: createOrganization { x } b: createProject { x } }"),
            ErrorCode::GraphqlValidationFailed
        );
        assert!(read("mutation { __typename createOrganization { x } }").is_ok());
        assert_eq!(refused("mutation { p { x } p { y } }"), ErrorCode::GraphqlValidationFailed);
        let many: Vec<_> = (0..11).map(|n| format!("a{n}: p")).collect();
        assert_eq!(
            refused(&format!("mutation {{ {} }}", many.join(" "))),
            ErrorCode::QueryTooComplex
        );
    }

    #[test]
    fn the_operation_must_be_there_and_chosen() {
        let two = "query a { x } query b { x }";
        assert_eq!(refused(two), ErrorCode::GraphqlValidationFailed);
        assert!(Document::read(two, Some("b"), &LIMITS, &[]).is_ok());
        assert!(Document::read(two, Some("c"), &LIMITS, &[]).is_err());
        assert_eq!(refused("{"), ErrorCode::GraphqlParseFailed);
    }
}
