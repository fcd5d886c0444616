//! The checks of the GraphQL specification, implemented by apollo-compiler: syntax, validation
//! (section 5) and coercion of variables (6.1.2). The executor's own checks are less complete.

use apollo_compiler::{
    ExecutableDocument, Name, Node, Schema, ast,
    diagnostic::ToCliReport as _,
    executable::Operation,
    introspection::check_max_depth,
    parser::{LineColumn, Parser},
    request::{RequestError, coerce_variable_values},
    response::{GraphQLError, JsonMap},
    schema::ExtendedType,
    validation::{DiagnosticList, Valid, WithErrors},
};
use async_graphql::Variables;
use serde_json::{Map, Value};

use super::{
    integers::read_integers,
    limits::{MAX_NESTING, Refusal},
    root_fields::RootFields,
    syntax_error::syntax_error,
};
use crate::error::ErrorCode;

/// What clients may introspect beside the built-in types of apollo-compiler: `@oneOf` of the
/// specification of September 2025, and deprecated directives, an experiment of graphql-js. No
/// directive is deprecated, so its fields are null.
const INTROSPECTION: &str = "
    extend type __Type { isOneOf: Boolean }
    extend type __Directive { isDeprecated: Boolean deprecationReason: String }";

/// The maximum number of reported errors.
const MAX_ERRORS: usize = 10;

/// The maximum length of a message and of a word in it, because messages repeat names and values of
/// the client.
const MAX_MESSAGE_CHARS: usize = 160;
const MAX_WORD_CHARS: usize = 60;

/// The parser also counts white space and comments as tokens. The scan before parsing counts the
/// others exactly.
const TOKENS_AROUND_EACH: usize = 8;

/// Errors that cause others: in the selections below them, and for variables and fragments that are
/// used only there.
const CAUSES: [&str; 4] =
    ["UndefinedField", "SubselectionOnScalarType", "SubselectionOnEnumType", "UndefinedDefinition"];

/// The maximum number of names that a message suggests.
const MAX_SUGGESTIONS: usize = 3;

/// The schema that documents are checked against.
#[derive(Debug)]
pub struct Validator {
    schema: Valid<Schema>,
    root_fields: RootFields,
    /// Whether a message about a wrong name suggests names of the schema.
    suggests: bool,
}

impl Validator {
    /// Parses a schema in the schema definition language.
    ///
    /// # Errors
    ///
    /// Returns the errors in the schema, or a directive of a root field that is not understood.
    pub fn new(sdl: &str, suggests: bool) -> Result<Self, String> {
        let mut schema = Schema::builder()
            .parse(sdl, "schema.graphql")
            .parse(INTROSPECTION, "introspection.graphql")
            .build()
            .map_err(|invalid| invalid.errors.to_string())?;
        list_deprecated_directives(&mut schema);
        let schema = schema.validate().map_err(|invalid| invalid.errors.to_string())?;
        let root_fields = RootFields::read(&schema)?;
        Ok(Self { schema, root_fields, suggests })
    }

    /// Checks the syntax, with limits that bound the parser's stack and time.
    pub(super) fn parse(text: &str, tokens: usize) -> Result<ast::Document, Vec<Refusal>> {
        let mut parser = Parser::new()
            .recursion_limit(MAX_NESTING)
            .token_limit(tokens.saturating_mul(TOKENS_AROUND_EACH));
        parser.parse_ast(text, "document").map_err(|invalid| {
            // The other errors are consequences of the first.
            let first = invalid.errors.iter().take(1).map(|error| {
                let offset = error.error.location().map_or(0, |location| location.offset());
                let mut error = error.unstable_to_json_compat();
                if error.message.contains("limit reached") {
                    return refusal(&error, ErrorCode::QueryTooComplex);
                }
                error.message = syntax_error(&error.message, text, offset);
                refusal(&error, ErrorCode::GraphqlParseFailed)
            });
            first.collect()
        })
    }

    /// Checks everything else that does not depend on the variables.
    pub(super) fn check(
        &self,
        document: &ast::Document,
        operation_name: Option<&str>,
    ) -> Result<Checked, Vec<Refusal>> {
        let valid = match document.to_executable_validate(&self.schema) {
            Ok(valid) => valid,
            Err(invalid) if subscribes_once(&invalid) => Valid::assume_valid(invalid.partial),
            Err(invalid) => return Err(self.invalid(&invalid.errors)),
        };
        let operation = valid.operations.get(operation_name);
        let operation = operation.map_err(|error| vec![refused(&error, &valid)])?;
        check_max_depth(&valid, operation).map_err(|error| {
            let message = format!("The document introspects too much: {}.", error.message());
            vec![Refusal { code: ErrorCode::QueryTooComplex, message, ..refused(&error, &valid) }]
        })?;
        let operation = operation.clone();
        Ok(Checked { document: valid, operation })
    }

    /// Returns the schema.
    pub(super) fn schema(&self) -> &Valid<Schema> {
        &self.schema
    }

    /// Returns the traits of the root fields.
    pub(super) fn root_fields(&self) -> &RootFields {
        &self.root_fields
    }

    /// Reports unknown fields and types alone, if there are any.
    fn invalid(&self, errors: &DiagnosticList) -> Vec<Refusal> {
        let is_cause = |name: Option<&str>| name.is_some_and(|name| CAUSES.contains(&name));
        let only_causes = errors.iter().any(|error| is_cause(error.error.unstable_error_name()));
        let reported = errors
            .iter()
            .filter(|error| !only_causes || is_cause(error.error.unstable_error_name()));
        let reported = reported.take(MAX_ERRORS).map(|error| {
            let mut error = error.unstable_to_json_compat();
            error.message.push_str(&self.suggestion(&error.message));
            refusal(&error, ErrorCode::GraphqlValidationFailed)
        });
        reported.collect()
    }

    /// The fields that the client may have meant, in the words of the reference implementation.
    fn suggestion(&self, message: &str) -> String {
        if !message.starts_with("Cannot query field") {
            return String::new();
        }
        let mut quoted = message.split('"').skip(1).step_by(2);
        let (Some(field), Some(ty)) = (quoted.next(), quoted.next()) else { return String::new() };
        let fields: Vec<&str> = match self.schema.types.get(ty) {
            Some(ExtendedType::Object(ty)) => ty.fields.keys().map(Name::as_str).collect(),
            Some(ExtendedType::Interface(ty)) => ty.fields.keys().map(Name::as_str).collect(),
            _ => Vec::new(),
        };
        if !self.suggests || field.len() > MAX_WORD_CHARS {
            return String::new();
        }
        match similar(field, &fields).as_slice() {
            [] => String::new(),
            [only] => format!(" Did you mean \"{only}\"?"),
            [first, second] => format!(" Did you mean \"{first}\" or \"{second}\"?"),
            [others @ .., last] => {
                let others: Vec<_> = others.iter().map(|name| format!("\"{name}\"")).collect();
                format!(" Did you mean {}, or \"{last}\"?", others.join(", "))
            }
        }
    }

    /// Reports a value that does not match, at the definition of its variable. The error itself may
    /// name only a field in the value.
    fn mismatch(&self, checked: &Checked, values: &JsonMap, error: &RequestError) -> Refusal {
        let variable = checked.operation.variables.iter().find(|variable| {
            let mut alone = checked.operation.as_ref().clone();
            alone.variables = vec![Node::clone(variable)];
            coerce_variable_values(&self.schema, &alone, values).is_err()
        });
        let Some(variable) = variable else { return refused(error, &checked.document) };
        let place = variable.name.line_column_range(&checked.document.sources);
        let message = format!("Variable \"${}\": {}", variable.name, error.message());
        Refusal {
            location: place.map(|range| (range.start.line, range.start.column)),
            ..Refusal::invalid(shortened(&message))
        }
    }

    /// Coerces the variables to the types and defaults that the operation declares.
    pub(super) fn coerce(
        &self,
        checked: &Checked,
        variables: Map<String, Value>,
    ) -> Result<Variables, Vec<Refusal>> {
        let values = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        let mut values: JsonMap = values.collect();
        for variable in &checked.operation.variables {
            if let Some(value) = values.get_mut(variable.name.as_str()) {
                read_integers(&self.schema, &variable.ty, value);
            }
        }
        let coerced = coerce_variable_values(&self.schema, &checked.operation, &values)
            .map_err(|error| vec![self.mismatch(checked, &values, &error)])?;
        let coerced = serde_json::to_value(coerced.into_inner()).unwrap_or_default();
        Ok(Variables::from_json(coerced))
    }
}

/// Adds the argument `includeDeprecated` to the list of directives.
fn list_deprecated_directives(schema: &mut Schema) {
    let argument = schema.type_field("__Directive", "args").ok();
    let argument = argument.and_then(|field| field.arguments.first().cloned());
    if let Some(ExtendedType::Object(of)) = schema.types.get_mut("__Schema")
        && let Some(field) = of.make_mut().fields.get_mut("directives")
    {
        field.make_mut().arguments.extend(argument);
    }
}

/// A valid document and the operation to execute.
#[derive(Debug)]
pub(super) struct Checked {
    document: Valid<ExecutableDocument>,
    pub(super) operation: Node<Operation>,
}

/// The most similar names, by the number of letters that differ. As in the reference
/// implementation, two fifths of the letters may.
fn similar<'names>(name: &str, names: &[&'names str]) -> Vec<&'names str> {
    let most = name.len() * 2 / 5 + 1;
    let lower = name.to_lowercase();
    let distance = |other: &str| strsim::osa_distance(&lower, &other.to_lowercase());
    let mut near: Vec<_> = names.iter().map(|other| (distance(other), *other)).collect();
    near.retain(|(distance, _)| *distance <= most);
    near.sort_unstable();
    near.into_iter().map(|(_, other)| other).take(MAX_SUGGESTIONS).collect()
}

/// Returns whether the only error is a subscription that names its root field more than once, as
/// its fragments may. Section 5.2.4.1 counts response keys, apollo-compiler counts fields.
fn subscribes_once(invalid: &WithErrors<ExecutableDocument>) -> bool {
    let mut names = invalid.errors.iter().map(|found| found.error.unstable_error_name());
    names.all(|name| name == Some("SubscriptionUsesMultipleFields"))
        && invalid.partial.operations.iter().all(|operation| {
            let mut keys =
                operation.root_fields(&invalid.partial).map(|field| field.response_key());
            let first = keys.next();
            !operation.is_subscription() || keys.all(|key| Some(key) == first)
        })
}

fn refused(error: &RequestError, document: &ExecutableDocument) -> Refusal {
    refusal(&error.to_graphql_error(&document.sources), ErrorCode::GraphqlValidationFailed)
}

fn refusal(error: &GraphQLError, code: ErrorCode) -> Refusal {
    let location = error.locations.first().map(|LineColumn { line, column }| (*line, *column));
    Refusal { code, message: shortened(&error.message), location }
}

pub(super) fn shortened(message: &str) -> String {
    let mut short = String::new();
    let mut word = 0;
    let cut = message.chars().enumerate().find(|&(count, char)| {
        word = if char.is_whitespace() { 0 } else { word + 1 };
        let full = count == MAX_MESSAGE_CHARS || word > MAX_WORD_CHARS;
        if !full {
            short.push(char);
        }
        full
    });
    if cut.is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
#[path = "validation_tests.rs"]
mod tests;
