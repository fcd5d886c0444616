//! The names that the files of a resource import, so that none is unused.

use super::{
    field::Kind,
    relation::Relation,
    resource::{Resource, lines},
};

/// The names that are needed, as a list.
fn needed<const COUNT: usize>(names: [(bool, &str); COUNT]) -> String {
    let names = names.into_iter().filter(|(needed, _)| *needed).map(|(_, name)| name);
    names.collect::<Vec<_>>().join(", ")
}

/// The text with the list in place of `*`; nothing if the list is empty.
fn around(text: &str, list: &str) -> String {
    if list.is_empty() { String::new() } else { text.replace('*', list) }
}

impl Resource {
    fn has(&self, kind: impl Fn(&Kind) -> bool) -> bool {
        self.fields.iter().any(|field| kind(&field.kind))
    }

    /// The imports that follow from the kinds of the fields.
    pub(super) fn type_imports(&self) -> Vec<(&'static str, String)> {
        let is = |wanted: Kind| self.has(|kind| *kind == wanted);
        let (date, timestamp, json) = (is(Kind::Date), is(Kind::Timestamp), is(Kind::Json));
        let text = needed([
            (self.has(|kind| matches!(kind, Kind::Text(_))), "Block"),
            (json, "BoundedJson"),
            (self.has(|kind| matches!(kind, Kind::String(_))), "Line"),
        ]);
        let chrono = needed([(timestamp, "DateTime"), (date, "NaiveDate"), (timestamp, "Utc")]);
        let scalars = needed([(date, "Date"), (json, "Json")]);
        let enums = self.fields.iter().filter_map(|field| match &field.kind {
            Kind::Enum(_, ty) => Some(format!("{ty}, ")),
            _ => None,
        });
        let enums: String = enums.collect();
        let required = self.fields.iter().any(|field| field.required);
        let nullable =
            !self.references.is_empty() || self.fields.iter().any(|field| !field.required);
        let uuid = is(Kind::Uuid);
        vec![
            ("serialize", around(", Serialize", &enums)),
            ("derive_enum_use", around("Enum,", &enums)),
            ("enum_use", enums),
            ("uuid_use", needed([(uuid, "use uuid::Uuid;")])),
            ("ops_uuid_use", needed([(uuid || self.parent.is_some(), "use uuid::Uuid;")])),
            ("scalar_use", around("*,", &scalars)),
            ("chrono_use", around("use chrono::{*};", &chrono)),
            ("time_use", needed([(timestamp, "use chrono::{DateTime, Utc};")])),
            ("calendar_use", needed([(timestamp, "    calendar,")])),
            ("text_use", around("    text::{*},", &text)),
            ("edit_use", needed([(nullable, "nullable"), (required, "required")])),
        ]
    }

    /// The imports that follow from the relations.
    pub(super) fn relation_imports(&self) -> Vec<(&'static str, String)> {
        let targets = self.targets();
        let areas = targets.iter().map(|relation| {
            let (module, ty) = (relation.module(), relation.target.pascal());
            let module = module.trim_start_matches("crate::");
            format!("    {module}::{{{ty}, {ty}ById}},\n")
        });
        let id = |relation: &&Relation| (relation.of_product, relation.id());
        let row = |relation: &&Relation| (relation.of_product, relation.entity.clone());
        let ids: Vec<_> = targets.iter().map(id).collect();
        let rows: Vec<_> = targets.iter().map(row).collect();
        let parent: Vec<_> = self.parent.iter().map(|parent| id(&parent)).collect();
        let own =
            [self.name.pascal() + "Id", self.name.snake().to_owned()].map(|name| (true, name));
        let known = ["OrganizationId", "UserId"].map(|name| (false, name.to_owned()));
        let error = if self.parent.is_some() { "{Error, Result}" } else { "Result" };
        let id_use = lines(ids.iter().map(|(_, id)| format!("{id}, ")), "");
        vec![
            ("areas_use", areas.collect()),
            ("error_use", error.to_owned()),
            ("id_use", around("require_id,", &id_use)),
            ("graphql_entity_use", entities(&[&own[..], &parent].concat())),
            ("ops_entity_use", entities(&[&own[..], &ids, &rows].concat())),
            ("ids", entities(&[&known[..], &own[..1], &ids].concat())),
        ]
    }
}

/// Names of the crate `entity`, each with whether it is part of the product, as one import.
fn entities(names: &[(bool, String)]) -> String {
    let list = |of_product: bool| {
        let names = names.iter().filter(|(known, _)| *known == of_product);
        lines(names.map(|(_, name)| name.clone()), ", ")
    };
    let (core, product) = (list(false), list(true));
    if core.is_empty() {
        format!("app::{{{product}}}")
    } else {
        format!("{{{core}, app::{{{product}}}}}")
    }
}
