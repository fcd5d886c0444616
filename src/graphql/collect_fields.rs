//! Merges the selections of an operation, by `CollectFields` and `MergeSelectionSets` of the
//! specification (section 6.3.2). Each response key remains once for each type.
//!
//! The executor runs a field as often as a selection set names it, so repetition ends here.
//! Validation has established that fields with one response key have the same arguments.

use std::{
    collections::{HashMap, HashSet},
    slice,
};

use apollo_compiler::{Schema, ast, schema::ExtendedType, validation::Valid};
use async_graphql::{
    Name, Positioned, Value, Variables,
    parser::types::{
        Directive, DocumentOperations, ExecutableDocument, Field, InlineFragment,
        OperationDefinition, OperationType, Selection, SelectionSet, TypeCondition,
    },
};

use super::limits::Refusal;

/// Selections on an interface are visited once for each type that implements it.
const MAX_VISITS_OF_A_SELECTION: usize = 16;

/// An operation as executed.
pub(super) struct Merged {
    /// The operation alone, without fragments and without directives on selections.
    pub(super) document: ExecutableDocument,
    /// Whether selections depend on variables. Without values for them, all those selections are
    /// included.
    pub(super) is_conditional: bool,
}

/// Merges the selections of an operation, for the values of its variables if given.
///
/// # Errors
///
/// Fails when merging takes too many visits, which requires nested interfaces.
pub(super) fn merge(
    operation: &Positioned<OperationDefinition>,
    document: &ExecutableDocument,
    schema: &Valid<Schema>,
    variables: Option<&Variables>,
    selections: usize,
) -> Result<Merged, Refusal> {
    let mut merging = Merging {
        document,
        schema,
        variables,
        visits_left: selections.saturating_mul(MAX_VISITS_OF_A_SELECTION),
        is_conditional: false,
    };
    let OperationDefinition { ty, variable_definitions, directives, selection_set } =
        &operation.node;
    let root = match ty {
        OperationType::Query => ast::OperationType::Query,
        OperationType::Mutation => ast::OperationType::Mutation,
        OperationType::Subscription => ast::OperationType::Subscription,
    };
    let root = schema.root_operation(root).ok_or_else(|| unknown("operation"))?;
    let merged = merging.set(root, slice::from_ref(&selection_set))?;
    let merged = OperationDefinition {
        ty: *ty,
        variable_definitions: variable_definitions.clone(),
        directives: directives.clone(),
        selection_set: Positioned::new(merged, selection_set.pos),
    };
    Ok(Merged {
        document: ExecutableDocument {
            operations: DocumentOperations::Single(Positioned::new(merged, operation.pos)),
            fragments: HashMap::default(),
        },
        is_conditional: merging.is_conditional,
    })
}

/// The document was validated, so this is an error of the server.
pub(super) fn unknown(what: &str) -> Refusal {
    Refusal::invalid(format!("The document selects an unknown {what}."))
}

/// The object types that selections apply to.
type Types<'document> = Vec<&'document str>;

/// The fields with one response key.
#[derive(Default)]
struct Group<'document> {
    /// The fields for every possible type of the parent.
    always: Vec<&'document Positioned<Field>>,
    /// The fields for only some of the types.
    by_type: HashMap<&'document str, Vec<&'document Positioned<Field>>>,
}

type Groups<'document> = HashMap<&'document str, Group<'document>>;

/// A selection set during the collection of its fields.
struct Collecting<'document> {
    types: Types<'document>,
    groups: Groups<'document>,
    /// The response keys in order of first appearance, for all types or for one.
    order: Vec<(&'document str, Option<&'document str>)>,
    /// The fragments that were already spread, by types.
    spread: HashSet<(&'document str, Types<'document>)>,
}

struct Merging<'document> {
    document: &'document ExecutableDocument,
    schema: &'document Valid<Schema>,
    variables: Option<&'document Variables>,
    visits_left: usize,
    is_conditional: bool,
}

impl<'document> Merging<'document> {
    /// Merges the selection sets of one parent.
    fn set(
        &mut self,
        parent: &str,
        sets: &[&'document Positioned<SelectionSet>],
    ) -> Result<SelectionSet, Refusal> {
        let types = self.types(parent);
        let mut collecting = Collecting {
            types: types.clone(),
            groups: Groups::default(),
            order: Vec::new(),
            spread: HashSet::default(),
        };
        for set in sets {
            self.collect(&set.node, &types, &mut collecting)?;
        }
        let mut items = Vec::with_capacity(collecting.groups.len());
        for (key, of) in &collecting.order {
            let Some(Group { always, by_type }) = collecting.groups.get(key) else { continue };
            let is_leaf = always.first().is_some_and(|field| is_leaf(field));
            match of {
                None if is_leaf || by_type.is_empty() => {
                    let field = self.field(parent, always)?;
                    let pos = field.pos;
                    items.push(Positioned::new(Selection::Field(field), pos));
                }
                None => {
                    for of in types.iter().filter(|of| !by_type.contains_key(*of)) {
                        push_on(&mut items, of, self.field(of, always)?);
                    }
                }
                // Already selected for every type.
                Some(_) if is_leaf => {}
                Some(of) => {
                    let of_type = by_type.get(of).into_iter().flatten();
                    let fields: Vec<_> = always.iter().chain(of_type).copied().collect();
                    push_on(&mut items, of, self.field(of, &fields)?);
                }
            }
        }
        Ok(SelectionSet { items })
    }

    /// Merges the fields with one response key.
    fn field(
        &mut self,
        parent: &str,
        fields: &[&'document Positioned<Field>],
    ) -> Result<Positioned<Field>, Refusal> {
        let first = fields.first().ok_or_else(|| unknown("field"))?;
        let Field { alias, name, arguments, selection_set, .. } = &first.node;
        let selected = if is_leaf(first) {
            SelectionSet::default()
        } else {
            let field = self.schema.type_field(parent, &name.node);
            let field = field.map_err(|_| unknown("field"))?;
            let sets: Vec<_> = fields.iter().map(|field| &field.node.selection_set).collect();
            self.set(field.ty.inner_named_type(), &sets)?
        };
        let field = Field {
            alias: alias.clone(),
            name: name.clone(),
            arguments: arguments.clone(),
            directives: Vec::new(),
            selection_set: Positioned::new(selected, selection_set.pos),
        };
        Ok(Positioned::new(field, first.pos))
    }

    /// Adds the fields of a selection set that applies to these types.
    fn collect(
        &mut self,
        set: &'document SelectionSet,
        types: &Types<'document>,
        collecting: &mut Collecting<'document>,
    ) -> Result<(), Refusal> {
        for selection in &set.items {
            self.visits_left = self.visits_left.checked_sub(1).ok_or_else(|| {
                let message = "The document selects too many fields of nested interfaces.";
                Refusal::too_complex_at(selection.pos, message)
            })?;
            if !self.is_selected(selection.node.directives()) {
                continue;
            }
            match &selection.node {
                Selection::Field(field) => collecting.add(field, types),
                Selection::InlineFragment(inline) => {
                    let inline = &inline.node;
                    let types = match &inline.type_condition {
                        Some(condition) => self.narrowed(types, &condition.node.on.node),
                        None => types.clone(),
                    };
                    if !types.is_empty() {
                        self.collect(&inline.selection_set.node, &types, collecting)?;
                    }
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    let fragment = self.document.fragments.get(name);
                    let fragment = &fragment.ok_or_else(|| unknown("fragment"))?.node;
                    let types = self.narrowed(types, &fragment.type_condition.node.on.node);
                    if !types.is_empty() && collecting.spread.insert((name, types.clone())) {
                        self.collect(&fragment.selection_set.node, &types, collecting)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The object types that a type stands for: itself, or those that implement it.
    fn types(&self, of: &str) -> Types<'document> {
        let schema: &'document Schema = self.schema;
        if let Some((name, ExtendedType::Object(_))) = schema.types.get_key_value(of) {
            return vec![name];
        }
        let objects = schema.types.iter().filter(|(name, definition)| {
            matches!(definition, ExtendedType::Object(_)) && schema.is_subtype(of, name)
        });
        objects.map(|(name, _)| name.as_str()).collect()
    }

    /// The types to which a type condition applies.
    fn narrowed(&self, types: &Types<'document>, condition: &str) -> Types<'document> {
        let applies = |of: &&str| *of == condition || self.schema.is_subtype(condition, of);
        types.iter().copied().filter(applies).collect()
    }

    fn is_selected(&mut self, directives: &[Positioned<Directive>]) -> bool {
        let mut is_selected = true;
        for directive in directives {
            let wanted = match directive.node.name.node.as_str() {
                "include" => true,
                "skip" => false,
                _ => continue,
            };
            let condition = directive.node.get_argument("if").map(|value| value.node.clone());
            let value = condition.map(|condition| {
                condition.into_const_with(|name| {
                    let variables = self.variables.ok_or(Unknown)?;
                    Ok(variables.get(&name).cloned().unwrap_or_default())
                })
            });
            match value {
                Some(Err(Unknown)) => self.is_conditional = true,
                Some(Ok(value)) => is_selected &= (value == Value::Boolean(true)) == wanted,
                None => {}
            }
        }
        is_selected
    }
}

/// A variable without a given value.
struct Unknown;

impl<'document> Collecting<'document> {
    fn add(&mut self, field: &'document Positioned<Field>, types: &Types<'document>) {
        let key = field.node.response_key().node.as_str();
        let group = self.groups.entry(key).or_default();
        if types.len() == self.types.len() {
            if group.always.is_empty() {
                self.order.push((key, None));
            }
            group.always.push(field);
            return;
        }
        for of in types {
            let of_type = group.by_type.entry(of).or_default();
            if of_type.is_empty() {
                self.order.push((key, Some(of)));
            }
            of_type.push(field);
        }
    }
}

fn is_leaf(field: &Positioned<Field>) -> bool {
    field.node.selection_set.node.items.is_empty()
}

/// Adds a field for one type to the inline fragment for that type, or creates it.
fn push_on(items: &mut Vec<Positioned<Selection>>, of: &str, field: Positioned<Field>) {
    let pos = field.pos;
    let field = Positioned::new(Selection::Field(field), pos);
    let mut inline = items.iter_mut().rev().map_while(|item| match &mut item.node {
        Selection::InlineFragment(inline) => Some(&mut inline.node),
        _ => None,
    });
    let on = |inline: &&mut InlineFragment| {
        inline.type_condition.as_ref().is_some_and(|condition| condition.node.on.node == of)
    };
    if let Some(inline) = inline.find(on) {
        inline.selection_set.node.items.push(field);
        return;
    }
    let condition = TypeCondition { on: Positioned::new(Name::new(of), pos) };
    let inline = InlineFragment {
        type_condition: Some(Positioned::new(condition, pos)),
        directives: Vec::new(),
        selection_set: Positioned::new(SelectionSet { items: vec![field] }, pos),
    };
    items.push(Positioned::new(Selection::InlineFragment(Positioned::new(inline, pos)), pos));
}
