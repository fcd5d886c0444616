//! The size of a document, fragments spread out: linear in its text, because each fragment is measured once.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
};

use async_graphql::{
    Name, Positioned, Value,
    parser::types::{
        ExecutableDocument, Field, FragmentDefinition, OperationDefinition, OperationType,
        Selection, SelectionSet,
    },
};

use super::document::{Limits, MAX_NESTING, Refusal, is_introspection};

/// The size of a selection with its fragments spread out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measure {
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

    pub(super) fn check(self, limits: &Limits) -> Result<(), Refusal> {
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

/// Measures the selections of one document.
pub(super) struct Measuring<'document> {
    document: &'document ExecutableDocument,
    done: HashMap<&'document Name, Measure>,
    open: HashSet<&'document Name>,
    /// The variables in arguments, except those of a mutation's root fields.
    pub(super) variables: HashSet<Name>,
}

impl<'document> Measuring<'document> {
    pub(super) fn new(document: &'document ExecutableDocument) -> Self {
        let (done, open, variables) = Default::default();
        Self { document, done, open, variables }
    }

    pub(super) fn operation(
        &mut self,
        operation: &'document OperationDefinition,
    ) -> Result<Measure, Refusal> {
        let mutates = operation.ty == OperationType::Mutation;
        self.set(&operation.selection_set.node, mutates, 0)
    }

    /// `mutates`: the fields are the root fields of a mutation.
    fn set(
        &mut self,
        set: &'document SelectionSet,
        mutates: bool,
        level: usize,
    ) -> Result<Measure, Refusal> {
        if level > MAX_NESTING {
            let message = format!("fragments nest deeper than {MAX_NESTING} levels");
            return Err(Refusal::too_complex(message));
        }
        let mut total = Measure::default();
        for selection in &set.items {
            let measure = match &selection.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    if !mutates {
                        for (_, value) in &field.arguments {
                            // Visits every variable in the value, however deep.
                            let _ = value.node.clone().into_const_with(|name| {
                                self.variables.insert(name);
                                Ok::<_, Infallible>(Value::Null)
                            });
                        }
                    }
                    self.set(&field.selection_set.node, false, level + 1)?.under(field)
                }
                Selection::InlineFragment(fragment) => {
                    self.set(&fragment.node.selection_set.node, mutates, level + 1)?
                }
                Selection::FragmentSpread(spread) => {
                    match self.document.fragments.get_key_value(&spread.node.fragment_name.node) {
                        Some((name, fragment)) => self.fragment(name, fragment, mutates, level)?,
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
        mutates: bool,
        level: usize,
    ) -> Result<Measure, Refusal> {
        if let Some(measure) = self.done.get(name) {
            return Ok(*measure);
        }
        if !self.open.insert(name) {
            return Err(Refusal::invalid("a fragment spreads itself, directly or through others"));
        }
        let measure = self.set(&fragment.node.selection_set.node, mutates, level + 1)?;
        self.open.remove(name);
        self.done.insert(name, measure);
        Ok(measure)
    }
}
