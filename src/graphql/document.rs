//! A document before it is executed: parsed once, measured against the limits, and told apart by what it does.
//!
//! Everything here is linear in the document's size, fragments are measured once however often they are spread,
//! so that no document is expensive to refuse.

use std::collections::{HashMap, HashSet};

use async_graphql::{
    Name, Positioned,
    parser::{
        parse_query,
        types::{
            DocumentOperations, ExecutableDocument, Field, FragmentDefinition, OperationDefinition,
            OperationType, Selection, SelectionSet,
        },
    },
};

use crate::error::ErrorCode;

/// Selections, lists and objects may nest this deep in the text; beyond it a parser's stack is at risk.
const MAX_NESTING: usize = 100;

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
        let mut measuring =
            Measuring { document: &parsed, done: HashMap::new(), open: HashSet::new() };
        for (_, operation) in parsed.operations.iter() {
            measuring.set(&operation.node.selection_set.node, 0)?.check(limits)?;
        }
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
        Ok(Self { parsed, is_mutation, introspection_only, introspects })
    }
}

/// Counts tokens and nesting without parsing (GraphQL specification, section 2.1).
fn scan(text: &str, limits: &Limits) -> Result<(), Refusal> {
    let bytes = text.as_bytes();
    let (mut at, mut tokens, mut nesting) = (0, 0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        at += match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => 1,
            b'#' => length(&bytes[at..], |byte| byte != b'\n'),
            _ => {
                tokens += 1;
                match byte {
                    b'{' | b'(' | b'[' => nesting += 1,
                    b'}' | b')' | b']' => nesting = nesting.saturating_sub(1),
                    _ => {}
                }
                token_length(&bytes[at..])
            }
        };
        if tokens > limits.tokens {
            let limit = limits.tokens;
            return Err(Refusal::too_complex(format!("the document has more than {limit} tokens")));
        }
        if nesting > MAX_NESTING {
            let message = format!("the document nests deeper than {MAX_NESTING} levels");
            return Err(Refusal::too_complex(message));
        }
    }
    Ok(())
}

/// How many bytes the token at the start takes; never 0.
fn token_length(bytes: &[u8]) -> usize {
    if bytes.starts_with(b"\"\"\"") {
        let end = (3..bytes.len())
            .find(|&at| bytes[at..].starts_with(b"\"\"\"") && bytes[at - 1] != b'\\');
        return end.map_or(bytes.len(), |end| end + 3);
    }
    if bytes[0] == b'"' {
        let mut at = 1;
        while at < bytes.len() && bytes[at] != b'"' && bytes[at] != b'\n' {
            at += if bytes[at] == b'\\' { 2 } else { 1 };
        }
        return (at + 1).min(bytes.len());
    }
    length(bytes, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-').max(1)
}

fn length(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| !wanted(byte)).unwrap_or(bytes.len())
}

fn is_introspection(field: &Field) -> bool {
    field.name.node == "__schema" || field.name.node == "__type"
}

/// The size of a selection with its fragments spread out.
#[derive(Clone, Copy, Debug, Default)]
struct Measure {
    fields: usize,
    aliases: usize,
    depth: usize,
    introspection_depth: usize,
}

impl Measure {
    fn beside(self, other: Self) -> Self {
        Self {
            fields: self.fields.saturating_add(other.fields),
            aliases: self.aliases.saturating_add(other.aliases),
            depth: self.depth.max(other.depth),
            introspection_depth: self.introspection_depth.max(other.introspection_depth),
        }
    }

    fn under(self, field: &Field) -> Self {
        let (depth, introspection_depth) = if is_introspection(field) {
            (0, 1 + self.depth.max(self.introspection_depth))
        } else {
            (1 + self.depth, self.introspection_depth)
        };
        Self {
            fields: self.fields.saturating_add(1),
            aliases: self.aliases.saturating_add(usize::from(field.alias.is_some())),
            depth,
            introspection_depth,
        }
    }

    fn check(self, limits: &Limits) -> Result<(), Refusal> {
        for (size, limit, what) in [
            (self.depth, limits.depth, "is nested deeper than {} levels of fields"),
            (
                self.introspection_depth,
                limits.introspection_depth,
                "introspects deeper than {} levels",
            ),
            (self.aliases, limits.aliases, "has more than {} aliases"),
            (self.fields, limits.complexity, "selects more than {} fields"),
        ] {
            if size > limit {
                let what = what.replace("{}", &limit.to_string());
                return Err(Refusal::too_complex(format!("the document {what}")));
            }
        }
        Ok(())
    }
}

struct Measuring<'document> {
    document: &'document ExecutableDocument,
    done: HashMap<&'document Name, Measure>,
    open: HashSet<&'document Name>,
}

impl<'document> Measuring<'document> {
    fn set(&mut self, set: &'document SelectionSet, level: usize) -> Result<Measure, Refusal> {
        if level > MAX_NESTING {
            let message = format!("fragments nest deeper than {MAX_NESTING} levels");
            return Err(Refusal::too_complex(message));
        }
        let mut total = Measure::default();
        for selection in &set.items {
            let measure = match &selection.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    self.set(&field.selection_set.node, level + 1)?.under(field)
                }
                Selection::InlineFragment(fragment) => {
                    self.set(&fragment.node.selection_set.node, level + 1)?
                }
                Selection::FragmentSpread(spread) => {
                    match self.document.fragments.get_key_value(&spread.node.fragment_name.node) {
                        Some((name, fragment)) => self.fragment(name, fragment, level)?,
                        // Validation tells about it.
                        None => Measure::default(),
                    }
                }
            };
            total = total.beside(measure);
        }
        Ok(total)
    }

    fn fragment(
        &mut self,
        name: &'document Name,
        fragment: &'document Positioned<FragmentDefinition>,
        level: usize,
    ) -> Result<Measure, Refusal> {
        if let Some(measure) = self.done.get(name) {
            return Ok(*measure);
        }
        if !self.open.insert(name) {
            return Err(Refusal::invalid("a fragment spreads itself, directly or through others"));
        }
        let measure = self.set(&fragment.node.selection_set.node, level + 1)?;
        self.open.remove(name);
        self.done.insert(name, measure);
        Ok(measure)
    }
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
