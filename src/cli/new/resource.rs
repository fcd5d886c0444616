//! A resource: its names, fields and relations, and what the templates need of them.

use super::{
    field::{Field, Kind},
    name::Name,
    relation::Relation,
    template::{Values, documentation},
};
use crate::cli::capitalized;

/// A resource that is to be written.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) name: Name,
    pub(super) plural: Name,
    pub(super) fields: Vec<Field>,
    /// The object to which each belongs.
    pub(super) parent: Option<Relation>,
    /// Other objects to which each may refer.
    pub(super) references: Vec<Relation>,
    /// The feature of plans that limits the number.
    pub(super) limit: Option<Name>,
    /// The number of the step, with four digits.
    pub(super) number: String,
}

const PAGE_ARGUMENTS: &str = r#"        #[graphql(
            desc = "The number of items from the start, at most 100. Defaults to 20 without `last`."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "The number of items from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,"#;

impl Resource {
    /// What every template may name.
    pub(super) fn values(&self) -> Values {
        let flags = [self.parent.as_ref().map(|_| "parent"), self.limit.as_ref().map(|_| "limit")];
        let texts = [
            self.names(),
            self.type_imports(),
            self.relation_imports(),
            self.stored_parts(),
            self.graphql_parts(),
            self.operation_parts(),
            self.audit_parts(),
            self.test_parts(),
        ];
        Values { texts: texts.concat(), flags: flags.into_iter().flatten().collect() }
    }

    fn names(&self) -> Vec<(&'static str, String)> {
        let (name, plural) = (&self.name, &self.plural);
        let (word, article) = (name.words(), name.article());
        let mut names = vec![
            ("task", name.snake().to_owned()),
            ("tasks", plural.snake().to_owned()),
            ("Task", name.pascal()),
            ("Tasks", plural.pascal()),
            ("TASK", name.snake().to_uppercase()),
            ("camel", name.camel()),
            ("camels", plural.camel()),
            ("word", word.clone()),
            ("words", plural.words()),
            ("Words", capitalized(&plural.words())),
            ("a_word", format!("{article} {word}")),
            ("A_word", capitalized(&format!("{article} {word}"))),
            ("a_task", format!("{article}_{}", name.snake())),
            ("number", self.number.clone()),
            ("page_arguments", PAGE_ARGUMENTS.to_owned()),
        ];
        if let Some(parent) = &self.parent {
            names.extend([
                ("parent", parent.name.snake().to_owned()),
                ("Parent", parent.target.pascal()),
                ("parent_word", parent.name.words()),
                ("parent_camel", parent.name.camel()),
            ]);
        }
        if let Some(limit) = &self.limit {
            names.push(("limit", limit.snake().to_owned()));
            names.push(("LIMIT", limit.snake().to_uppercase()));
        }
        names
    }

    /// The parent, and the references.
    pub(super) fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.parent.iter().chain(&self.references)
    }

    /// The relations, without those that lead to the same type as another.
    pub(super) fn targets(&self) -> Vec<&Relation> {
        let mut targets: Vec<&Relation> = Vec::new();
        for relation in self.relations() {
            if targets.iter().all(|known| known.target != relation.target) {
                targets.push(relation);
            }
        }
        targets
    }

    /// A text for each part of a row: the parent, the fields, and the references.
    fn parts<'a>(
        &'a self,
        of_relation: impl Fn(&'a Relation) -> String,
        of_field: impl Fn(&'a Field) -> String,
    ) -> Vec<String> {
        let parent = self.parent.iter().map(&of_relation).collect();
        [parent, self.editable_parts(&of_relation, of_field)].concat()
    }

    /// The same without the parent, which never changes.
    fn editable_parts<'a>(
        &'a self,
        of_reference: impl Fn(&'a Relation) -> String,
        of_field: impl Fn(&'a Field) -> String,
    ) -> Vec<String> {
        self.fields.iter().map(of_field).chain(self.references.iter().map(of_reference)).collect()
    }

    fn stored_parts(&self) -> Vec<(&'static str, String)> {
        let name = &self.name;
        let columns = self.parts(Relation::column, |field| field.column(name));
        let user = "        Reference::global(\"created_by\", \"auth.users\", OnDelete::SetNull),";
        let references = self.relations().map(Relation::reference).chain([user.to_owned()]);
        let entity = self.parts(Relation::entity_column, Field::entity_column);
        vec![
            ("columns", lines([columns, vec!["    created_by uuid".to_owned()]].concat(), ",\n")),
            ("references", lines(references, "\n")),
            (
                "types",
                lines(self.fields.iter().filter_map(|field| field.type_statement(name)), "\n"),
            ),
            ("entity_columns", lines(entity, "\n")),
            (
                "entity_enums",
                lines(self.fields.iter().filter_map(|field| field.entity_enum(name)), "\n"),
            ),
        ]
    }

    fn graphql_parts(&self) -> Vec<(&'static str, String)> {
        let resolvers = self.parts(|relation| relation.resolver(&self.name), Field::resolver);
        let create = self.parts(Relation::create_field, Field::create_field);
        let update = self.editable_parts(Relation::update_field, Field::update_field);
        let values = self.parts(Relation::create_value, Field::create_value);
        let edits = self.editable_parts(Relation::update_value, Field::update_value);
        let enums = self.fields.iter().filter_map(|field| field.graphql_enum(&self.name));
        vec![
            ("enums", lines(enums, "\n")),
            ("fields", lines(resolvers, "\n")),
            ("create_fields", lines(create, "\n")),
            ("update_fields", lines(update, "\n")),
            ("create_values", lines(values, "\n")),
            ("update_values", lines(edits, "\n")),
            ("create_errors", documentation(&self.errors(true)).trim_end().to_owned()),
            ("update_errors", documentation(&self.errors(false)).trim_end().to_owned()),
        ]
    }

    /// The errors of a mutation, for clients.
    fn errors(&self, creates: bool) -> String {
        let mut errors = Vec::new();
        let mut missing: Vec<String> = self.references.iter().map(|one| one.name.words()).collect();
        if creates {
            if self.limit.is_some() {
                let words = self.plural.words();
                errors.push(format!("`PLAN_LIMIT_EXCEEDED` if the plan allows no more {words}"));
            }
            missing.extend(self.parent.iter().map(|parent| parent.name.words()));
        } else {
            missing.insert(0, self.name.words());
        }
        if !missing.is_empty() {
            let missing = or_list(&missing);
            errors.push(format!("`NOT_FOUND` if the current organization has no such {missing}"));
        }
        let invalid = self.fields.iter().filter(|field| field.can_be_invalid());
        let invalid: Vec<_> = invalid.map(|field| field.name.words()).collect();
        if !invalid.is_empty() {
            errors.push(format!("`BAD_USER_INPUT` for an invalid {}", or_list(&invalid)));
        }
        if errors.is_empty() { String::new() } else { format!("Errors: {}.", errors.join("; ")) }
    }

    /// The field that names an object in the audit log.
    pub(super) fn label(&self) -> Option<&Field> {
        self.fields.iter().find(|field| field.required && matches!(field.kind, Kind::String(_)))
    }

    /// The parameters of operations, and how they become rows.
    fn operation_parts(&self) -> Vec<(&'static str, String)> {
        let new = self.parts(
            |one| format!("pub(super) {}: {},", one.column_name(), one.valid_type()),
            |field| format!("pub(super) {}: {},", field.name.snake(), field.valid_type(&self.name)),
        );
        let edit = self.editable_parts(
            |one| format!("pub(super) {}: Edit<{}>,", one.column_name(), one.valid_type()),
            |field| {
                let (name, ty) = (field.name.snake(), field.valid_type(&self.name));
                format!("pub(super) {name}: Edit<{ty}>,")
            },
        );
        let apply = self.editable_parts(Relation::apply, Field::apply);
        let label = self.label().map(|field| field.name.snake());
        let set = self.parts(Relation::set, |field| match field.name.snake() {
            name if Some(name) == label => format!("{name}: Set({name}),"),
            name => format!("{name}: Set({}),", field.new_value()),
        });
        let targets = self.targets().into_iter();
        vec![
            ("new_fields", lines(new, "\n")),
            ("edit_fields", lines(edit, "\n")),
            ("apply_fields", lines(apply, "\n")),
            ("set_fields", lines(set, "\n")),
            ("require_functions", lines(targets.map(Relation::require_function), "\n")),
            ("create_checks", self.create_checks()),
            ("required_edits", lines(self.references.iter().map(Relation::require_edit), "\n")),
            ("all", if self.parent.is_some() { "::All" } else { "" }.to_owned()),
        ]
    }

    /// What operations record in the audit log.
    fn audit_parts(&self) -> Vec<(&'static str, String)> {
        let label = self.label().map(|field| field.name.snake());
        let of_label = |text: &str| label.map_or(String::new(), |name| text.replace('*', name));
        let metadata = label.map_or("none".to_owned(), |name| format!("`{name}`"));
        let updated = label.map(|name| format!("`{name}`, and old and new values"));
        let updated = updated.unwrap_or_else(|| "old and new values".to_owned());
        let deleted = of_label(&format!("\"*\": {}.*", self.name.snake()));
        let value = |field: &Field| format!("let {} = {};", field.name.snake(), field.new_value());
        let columns =
            self.editable_parts(Relation::column_name, |field| field.name.snake().to_owned());
        let compared = columns
            .iter()
            .map(|name| format!("(\"{name}\", json!(before.{name}), json!(after.{name})),"));
        vec![
            ("label_metadata", metadata),
            ("update_metadata", updated),
            ("after_label", of_label("\"*\": after.*")),
            ("new_label", of_label("\"*\": *")),
            ("deleted_label", deleted),
            ("label_value", self.label().map(value).unwrap_or_default()),
            ("compared_fields", lines(compared, "\n")),
        ]
    }

    /// What a new object requires, which is sent together.
    fn create_checks(&self) -> String {
        let required: Vec<_> = self.relations().map(Relation::require_new).collect();
        let (lock, results) = if self.limit.is_some() {
            (vec!["plan::lock(session)", "count(session)"], vec!["lock", "count"])
        } else {
            (vec!["plan::lock_if_several_changes(session)"], vec!["()"])
        };
        let results = [results, vec!["()"; required.len()]].concat().join(", ");
        let calls: Vec<_> =
            lock.iter().copied().chain(required.iter().map(String::as_str)).collect();
        match &calls[..] {
            [alone] => format!("    {alone}.await?;"),
            [_, _] if required.is_empty() => {
                format!("    let ({results}) = try_join!(biased; {})?;", calls.join(", "))
            }
            _ => format!(
                "    let ({results}) = try_join!(\n        biased;\n        {}\n    )?;",
                calls.join(",\n        ")
            ),
        }
    }
}

pub(super) fn lines(parts: impl IntoIterator<Item = String>, separator: &str) -> String {
    parts.into_iter().collect::<Vec<_>>().join(separator)
}

/// The parts as a list: "a, b or c".
fn or_list(parts: &[String]) -> String {
    match parts {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        parts => parts.concat(),
    }
}
