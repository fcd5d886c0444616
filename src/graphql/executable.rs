//! Converts a document to the form that the executor takes. The document has been parsed once, by
//! apollo-compiler, so the checks and the executor never disagree about its text.

use std::collections::HashMap;

use apollo_compiler::{Node, ast, parser::SourceSpan};
use async_graphql::{
    Name, Pos, Positioned,
    indexmap::IndexMap,
    parser::types::{
        BaseType, Directive, DocumentOperations, ExecutableDocument, Field, FragmentDefinition,
        FragmentSpread, InlineFragment, OperationDefinition, OperationType, Selection,
        SelectionSet, Type, TypeCondition, VariableDefinition,
    },
};
use async_graphql_value::Value;

use super::{limits::Refusal, validation::shortened};
use crate::error::ErrorCode;

type Result<T> = std::result::Result<T, Refusal>;

/// Converts a document that was parsed from this text.
///
/// # Errors
///
/// Fails if names are defined twice, an input object has a field twice, or the document defines
/// anything but operations and fragments.
pub(super) fn executable(document: &ast::Document, text: &str) -> Result<ExecutableDocument> {
    let mut places = Places { text, offset: 0, pos: Pos { line: 1, column: 1 } };
    let (mut anonymous, mut named, mut fragments) = (None, HashMap::new(), HashMap::new());
    for definition in &document.definitions {
        let pos = places.at(definition.location());
        match definition {
            ast::Definition::OperationDefinition(operation) => {
                let converted = Positioned::new(places.operation(operation)?, pos);
                match &operation.name {
                    Some(name) => {
                        if named.insert(Name::new(name), converted).is_some() {
                            let message =
                                format!("There can be only one operation named \"{name}\".");
                            return Err(Refusal::invalid_at(pos, message));
                        }
                    }
                    None if anonymous.is_some() => return Err(not_alone(pos)),
                    None => anonymous = Some(converted),
                }
            }
            ast::Definition::FragmentDefinition(fragment) => {
                let converted = Positioned::new(places.fragment(fragment)?, pos);
                let name = &fragment.name;
                if fragments.insert(Name::new(name), converted).is_some() {
                    let message = format!("There can be only one fragment named \"{name}\".");
                    return Err(Refusal::invalid_at(pos, message));
                }
            }
            _ => {
                let message = "A document may define only operations and fragments.";
                return Err(Refusal::invalid_at(pos, message));
            }
        }
    }
    let operations = match anonymous {
        Some(operation) if named.is_empty() => DocumentOperations::Single(operation),
        Some(operation) => return Err(not_alone(operation.pos)),
        None if named.is_empty() => {
            let start = Pos { line: 1, column: 1 };
            return Err(Refusal::invalid_at(start, "The document defines no operation."));
        }
        None => DocumentOperations::Multiple(named),
    };
    Ok(ExecutableDocument { operations, fragments })
}

fn not_alone(pos: Pos) -> Refusal {
    Refusal::invalid_at(pos, "An anonymous operation must be the only operation of its document.")
}

/// Finds the line and column of each node. Nodes are visited in the order of the text, so that the
/// text is read once.
struct Places<'text> {
    text: &'text str,
    offset: usize,
    pos: Pos,
}

impl Places<'_> {
    fn at(&mut self, location: Option<SourceSpan>) -> Pos {
        let offset = location.map_or(self.offset, |location| location.offset());
        if let Some(passed) = self.text.get(self.offset..offset) {
            for char in passed.chars() {
                self.pos = match char {
                    '\n' => Pos { line: self.pos.line + 1, column: 1 },
                    _ => Pos { column: self.pos.column + 1, ..self.pos },
                };
            }
            self.offset = offset;
        }
        self.pos
    }

    fn name(&mut self, name: &apollo_compiler::Name) -> Positioned<Name> {
        let pos = self.at(name.location());
        Positioned::new(Name::new(name), pos)
    }

    fn operation(&mut self, operation: &ast::OperationDefinition) -> Result<OperationDefinition> {
        let variables = operation.variables.iter().map(|variable| {
            let pos = self.at(variable.location());
            Ok(Positioned::new(self.variable(variable)?, pos))
        });
        Ok(OperationDefinition {
            ty: match operation.operation_type {
                ast::OperationType::Query => OperationType::Query,
                ast::OperationType::Mutation => OperationType::Mutation,
                ast::OperationType::Subscription => OperationType::Subscription,
            },
            variable_definitions: variables.collect::<Result<_>>()?,
            directives: self.directives(&operation.directives)?,
            selection_set: self.selection_set(&operation.selection_set)?,
        })
    }

    fn variable(&mut self, variable: &ast::VariableDefinition) -> Result<VariableDefinition> {
        let name = self.name(&variable.name);
        let pos = self.at(variable.ty.location());
        let default_value = variable.default_value.as_ref().map(|value| {
            let Positioned { pos, node } = self.value(value)?;
            let constant = node.into_const().ok_or_else(|| {
                Refusal::invalid_at(pos, "A default value must not contain variables.")
            })?;
            Ok(Positioned::new(constant, pos))
        });
        Ok(VariableDefinition {
            name,
            var_type: Positioned::new(to_type(&variable.ty), pos),
            default_value: default_value.transpose()?,
            directives: self.directives(&variable.directives)?,
        })
    }

    fn fragment(&mut self, fragment: &ast::FragmentDefinition) -> Result<FragmentDefinition> {
        Ok(FragmentDefinition {
            type_condition: self.type_condition(&fragment.type_condition),
            directives: self.directives(&fragment.directives)?,
            selection_set: self.selection_set(&fragment.selection_set)?,
        })
    }

    fn type_condition(&mut self, on: &apollo_compiler::Name) -> Positioned<TypeCondition> {
        let on = self.name(on);
        Positioned { pos: on.pos, node: TypeCondition { on } }
    }

    fn directives(
        &mut self,
        directives: &ast::DirectiveList,
    ) -> Result<Vec<Positioned<Directive>>> {
        let directives = directives.iter().map(|directive| {
            let pos = self.at(directive.location());
            let name = self.name(&directive.name);
            let arguments = self.arguments(&directive.arguments)?;
            Ok(Positioned::new(Directive { name, arguments }, pos))
        });
        directives.collect()
    }

    fn arguments(
        &mut self,
        arguments: &[Node<ast::Argument>],
    ) -> Result<Vec<(Positioned<Name>, Positioned<Value>)>> {
        let arguments = arguments
            .iter()
            .map(|argument| Ok((self.name(&argument.name), self.value(&argument.value)?)));
        arguments.collect()
    }

    fn selection_set(&mut self, selections: &[ast::Selection]) -> Result<Positioned<SelectionSet>> {
        let pos = self.pos;
        let items = selections.iter().map(|selection| {
            let pos = self.at(selection.location());
            Ok(Positioned::new(self.selection(selection, pos)?, pos))
        });
        Ok(Positioned::new(SelectionSet { items: items.collect::<Result<_>>()? }, pos))
    }

    fn selection(&mut self, selection: &ast::Selection, pos: Pos) -> Result<Selection> {
        Ok(match selection {
            ast::Selection::Field(field) => {
                let field = Field {
                    alias: field.alias.as_ref().map(|alias| self.name(alias)),
                    name: self.name(&field.name),
                    arguments: self.arguments(&field.arguments)?,
                    directives: self.directives(&field.directives)?,
                    selection_set: self.selection_set(&field.selection_set)?,
                };
                Selection::Field(Positioned::new(field, pos))
            }
            ast::Selection::FragmentSpread(spread) => {
                let spread = FragmentSpread {
                    fragment_name: self.name(&spread.fragment_name),
                    directives: self.directives(&spread.directives)?,
                };
                Selection::FragmentSpread(Positioned::new(spread, pos))
            }
            ast::Selection::InlineFragment(inline) => {
                let condition = inline.type_condition.as_ref();
                let inline = InlineFragment {
                    type_condition: condition.map(|on| self.type_condition(on)),
                    directives: self.directives(&inline.directives)?,
                    selection_set: self.selection_set(&inline.selection_set)?,
                };
                Selection::InlineFragment(Positioned::new(inline, pos))
            }
        })
    }

    fn value(&mut self, value: &Node<ast::Value>) -> Result<Positioned<Value>> {
        let pos = self.at(value.location());
        let converted = match &**value {
            ast::Value::Null => Value::Null,
            ast::Value::Enum(name) => Value::Enum(Name::new(name)),
            ast::Value::Variable(name) => Value::Variable(Name::new(name)),
            ast::Value::String(text) => Value::String(text.clone()),
            ast::Value::Boolean(value) => Value::Boolean(*value),
            ast::Value::Int(number) => to_number(number.as_str(), pos)?,
            ast::Value::Float(number) => to_number(number.as_str(), pos)?,
            ast::Value::List(items) => {
                let items = items.iter().map(|item| Ok(self.value(item)?.node));
                Value::List(items.collect::<Result<_>>()?)
            }
            ast::Value::Object(fields) => {
                let mut object = IndexMap::with_capacity(fields.len());
                for (name, value) in fields {
                    let Positioned { pos, node: key } = self.name(name);
                    if object.insert(key, self.value(value)?.node).is_some() {
                        // apollo-compiler does not check this (section 5.6.3), and the executor
                        // would use either value.
                        let message =
                            format!("There can be only one input field named \"{name}\".");
                        return Err(Refusal::invalid_at(pos, shortened(&message)));
                    }
                }
                Value::Object(object)
            }
        };
        Ok(Positioned::new(converted, pos))
    }
}

fn to_number(text: &str, pos: Pos) -> Result<Value> {
    text.parse().map(Value::Number).map_err(|_| Refusal {
        code: ErrorCode::GraphqlParseFailed,
        ..Refusal::invalid_at(pos, "The number is out of range.")
    })
}

fn to_type(ty: &ast::Type) -> Type {
    let base = match ty {
        ast::Type::Named(name) | ast::Type::NonNullNamed(name) => BaseType::Named(Name::new(name)),
        ast::Type::List(items) | ast::Type::NonNullList(items) => {
            BaseType::List(Box::new(to_type(items)))
        }
    };
    Type { base, nullable: !ty.is_non_null() }
}

#[cfg(test)]
#[path = "executable_tests.rs"]
mod tests;
