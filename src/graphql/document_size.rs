//! The size of a document as written, and of an operation as executed. Linear in the text, because
//! each fragment is measured once.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
};

use async_graphql::{
    Name, Pos, Positioned, Value,
    parser::types::{
        ExecutableDocument, Field, FragmentDefinition, OperationType, Selection, SelectionSet,
    },
};

use super::limits::{Limits, MAX_NESTING, Refusal};

/// The fields that introspection may return, as estimated. Introspection takes no transaction, so
/// nothing else limits its response. The queries of common tools are estimated at up to 80,000.
const MAX_INTROSPECTED_FIELDS: usize = 160_000;

/// The estimated length of the lists of introspection: the whole schema, or those of one type.
const LISTS: [(&str, usize); 9] = [
    // As text, the whole schema is as long as the fields of this many entries.
    ("_service", 10_000),
    ("types", 100),
    ("directives", 10),
    ("fields", 5),
    ("args", 2),
    ("inputFields", 3),
    ("enumValues", 5),
    ("possibleTypes", 3),
    ("interfaces", 1),
];

/// The size of a selection with its fragments spread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measure {
    /// Fields, spreads and inline fragments: the nodes to visit.
    selections: usize,
    aliases: usize,
    depth: usize,
    introspection_depth: usize,
    /// The place of the deepest field.
    deepest: Option<Pos>,
    /// The fields of the response if this were introspection, and those that are.
    estimated: usize,
    introspected: usize,
    /// The nesting of selection sets, including those of fragments.
    height: usize,
}

impl Measure {
    fn beside(self, other: Self) -> Self {
        let level = |of: Self| of.depth.max(of.introspection_depth);
        Self {
            selections: self.selections.saturating_add(other.selections),
            aliases: self.aliases.saturating_add(other.aliases),
            depth: self.depth.max(other.depth),
            introspection_depth: self.introspection_depth.max(other.introspection_depth),
            deepest: if level(other) > level(self) { other.deepest } else { self.deepest },
            estimated: self.estimated.saturating_add(other.estimated),
            introspected: self.introspected.saturating_add(other.introspected),
            height: self.height.max(other.height),
        }
    }

    /// The size of a fragment with this content, inline or spread.
    fn within(self) -> Self {
        let selections = self.selections.saturating_add(1);
        Self { selections, height: self.height + 1, ..self }
    }

    fn under(self, field: &Positioned<Field>) -> Self {
        let Positioned { pos, node: field } = field;
        let list = LISTS.iter().find(|(name, _)| field.name.node == *name);
        let length = list.map_or(1, |(_, length)| *length);
        let estimated = self.estimated.saturating_mul(length).saturating_add(1);
        let (depth, introspection_depth, introspected) = if is_introspection(field) {
            (0, 1 + self.depth.max(self.introspection_depth), estimated)
        } else {
            (1 + self.depth, self.introspection_depth, self.introspected)
        };
        Self {
            selections: self.selections.saturating_add(1),
            aliases: self.aliases.saturating_add(usize::from(field.alias.is_some())),
            depth,
            introspection_depth,
            deepest: self.deepest.or(Some(*pos)),
            estimated,
            introspected,
            height: self.height + 1,
        }
    }

    /// Checks the limits on a document as written, which bound the work of validating it. `place`
    /// is that of the operation or the fragment.
    fn check_written(self, limits: &Limits, place: Pos) -> Result<(), Refusal> {
        let deepest = self.deepest.unwrap_or(place);
        check(&[
            (self.depth, limits.depth, "is nested deeper than {} levels of fields", deepest),
            (
                self.introspection_depth,
                limits.introspection_depth,
                "introspects deeper than {} levels",
                deepest,
            ),
            (self.height, MAX_NESTING, "nests deeper than {} levels, including fragments", place),
            (self.selections, limits.complexity, "selects more than {} fields", place),
        ])
    }

    /// Checks the limits on an operation as executed, with each response key once.
    fn check_executed(self, limits: &Limits, place: Pos) -> Result<(), Refusal> {
        check(&[
            (
                self.introspected,
                MAX_INTROSPECTED_FIELDS,
                "introspects more than {} fields, as estimated by the lists that it selects",
                place,
            ),
            (self.aliases, limits.aliases, "has more than {} aliases", place),
            (self.selections, limits.complexity, "selects more than {} fields", place),
        ])
    }
}

fn check(limits: &[(usize, usize, &str, Pos)]) -> Result<(), Refusal> {
    for (size, limit, what, place) in limits {
        if size > limit {
            let what = what.replace("{}", &limit.to_string());
            let message = format!("The document {what}.");
            return Err(Refusal::too_complex_at(*place, message));
        }
    }
    Ok(())
}

/// Checks a merged operation against the limits. Returns the number of its selections.
pub(super) fn executed(document: &ExecutableDocument, limits: &Limits) -> Result<usize, Refusal> {
    let mut total = Measure::default();
    let mut measuring = Measuring::new(document);
    for (_, operation) in document.operations.iter() {
        let measure = measuring.set(&operation.node.selection_set.node, true, 0)?;
        total = total.beside(measure);
        total.check_executed(limits, operation.pos)?;
    }
    Ok(total.selections)
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

    /// Measures all operations together, and every fragment, used or not. Returns the number of
    /// selections in the operations.
    pub(super) fn document(&mut self, limits: &Limits) -> Result<usize, Refusal> {
        let mut total = Measure::default();
        for (_, operation) in self.document.operations.iter() {
            let mutates = operation.node.ty == OperationType::Mutation;
            let measure = self.set(&operation.node.selection_set.node, mutates, 0)?;
            total = total.beside(measure);
            total.check_written(limits, operation.pos)?;
        }
        for (name, fragment) in &self.document.fragments {
            let mut measure = self.fragment(name, fragment, false, 0)?;
            // A fragment on `__Type` or similar is spread within introspection.
            if fragment.node.type_condition.node.on.node.starts_with("__") {
                measure.introspection_depth = measure.introspection_depth.max(measure.depth);
                measure.depth = 0;
            }
            measure.check_written(limits, fragment.pos)?;
        }
        Ok(total.selections)
    }

    /// `mutates` states that the fields are root fields of a mutation.
    fn set(
        &mut self,
        set: &'document SelectionSet,
        mutates: bool,
        level: usize,
    ) -> Result<Measure, Refusal> {
        if level > MAX_NESTING {
            let message = format!("Fragments nest deeper than {MAX_NESTING} levels.");
            let place = set.items.first().map_or_else(Pos::default, |selection| selection.pos);
            return Err(Refusal::too_complex_at(place, message));
        }
        let mut total = Measure::default();
        for selection in &set.items {
            let measure = match &selection.node {
                Selection::Field(field) => {
                    if !mutates {
                        for (_, value) in &field.node.arguments {
                            // Visits every variable in the value, at any depth.
                            let _ = value.node.clone().into_const_with(|name| {
                                self.variables.insert(name);
                                Ok::<_, Infallible>(Value::Null)
                            });
                        }
                    }
                    self.set(&field.node.selection_set.node, false, level + 1)?.under(field)
                }
                Selection::InlineFragment(fragment) => {
                    self.set(&fragment.node.selection_set.node, mutates, level + 1)?.within()
                }
                Selection::FragmentSpread(spread) => {
                    match self.document.fragments.get_key_value(&spread.node.fragment_name.node) {
                        Some((name, fragment)) => {
                            self.fragment(name, fragment, mutates, level)?.within()
                        }
                        None => {
                            return Err(Refusal::invalid_at(
                                spread.pos,
                                "The document spreads an undefined fragment.",
                            ));
                        }
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
            return Err(Refusal::invalid_at(
                fragment.pos,
                "A fragment spreads itself, directly or through other fragments.",
            ));
        }
        let measure = self.set(&fragment.node.selection_set.node, mutates, level + 1)?;
        self.open.remove(name);
        self.done.insert(name, measure);
        Ok(measure)
    }
}

/// Whether a root field returns the schema; `_service` is that of gateways.
pub(super) fn is_introspection(field: &Field) -> bool {
    ["__schema", "__type", "_service"].contains(&field.name.node.as_str())
}
