//! What the test of a resource needs: objects to which it refers, valid values, and bad ones.

use super::{
    field::Field,
    relation::Relation,
    resource::{Resource, lines},
};

/// An id of nothing.
const UNKNOWN: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

impl Resource {
    pub(super) fn test_parts(&self) -> Vec<(&'static str, String)> {
        let task = self.name.snake();
        let selected = self.relations().map(|relation| relation.name.camel() + " { id }");
        let selected = self.fields.iter().map(|field| field.name.camel()).chain(selected);
        let input = self
            .relations()
            .map(|one| format!("\"{}Id\": {}", one.name.camel(), one.target.snake()));
        let first = |field: &Field| format!("\"{}\": {}", field.name.camel(), field.samples()[0]);
        let second = |field: &Field| format!("\"{}\": {}", field.name.camel(), field.samples()[1]);
        let input = input.chain(self.fields.iter().map(first));
        let removed = self.references.iter().map(|one| format!("\"{}Id\": null", one.name.camel()));
        let created = self.relations().map(|one| {
            let name = one.name.camel();
            format!("assert_eq!({task}[\"{name}\"][\"id\"], input[\"{name}Id\"]);")
        });
        let equal = |field: &Field, input: &str| {
            let name = field.name.camel();
            format!("assert_eq!({task}[\"{name}\"], {input}[\"{name}\"]);")
        };
        let created = created.chain(self.fields.iter().map(|field| equal(field, "input")));
        let unset = self
            .references
            .iter()
            .map(|one| format!("assert_eq!({task}[\"{}\"], json!(null));", one.name.camel()));
        let updated = self.fields.iter().map(|field| equal(field, "edit")).chain(unset);
        let recorded = self.label().map(|field| {
            let (name, [_, second]) = (field.name.snake(), field.samples());
            format!("assert_eq!(logs[0][\"metadata\"], json!({{ \"{name}\": {second} }}));")
        });
        let bad = self.bad_values();
        let needed = self.targets();
        vec![
            ("client", if needed.is_empty() { "_" } else { "client" }.to_owned()),
            ("needed_objects", lines(needed.into_iter().map(Relation::needed), "\n")),
            ("selection", wrapped(selected)),
            ("create_input", lines(input, ",\n        ")),
            ("created_checks", lines(created, "\n")),
            ("update_input", lines(self.fields.iter().map(second).chain(removed), ",\n        ")),
            ("updated_checks", lines(updated, "\n")),
            ("recorded_checks", recorded.unwrap_or_default()),
            ("bad_count", bad.len().to_string()),
            ("bad_values", lines(bad, "\n")),
        ]
    }

    fn bad_values(&self) -> Vec<String> {
        let unknown = self.relations().map(|relation| {
            format!("(\"{}Id\", json!(\"{UNKNOWN}\"), \"NOT_FOUND\"),", relation.name.camel())
        });
        let bad = self.fields.iter().flat_map(|field| {
            let name = field.name.camel();
            let values = field.bad_samples().into_iter();
            values.map(move |value| format!("(\"{name}\", {value}, \"BAD_USER_INPUT\"),"))
        });
        unknown.chain(bad).collect()
    }
}

/// The fields of a selection, on lines of moderate length.
fn wrapped(fields: impl Iterator<Item = String>) -> String {
    let mut rows: Vec<String> = Vec::new();
    for field in fields {
        match rows.last_mut().filter(|row| row.len() + field.len() < 88) {
            Some(row) => row.extend([" ", &field]),
            None => rows.push(field),
        }
    }
    lines(rows, "\n        ")
}

impl Relation {
    /// The id of an object, in a test.
    fn needed(&self) -> String {
        let (target, list) = (self.target.snake(), &self.list);
        if self.has_creator {
            return format!("let {target} = {}::create(client).await;", self.module());
        }
        format!(
            "let list = \"{{ organization {{ {list}(first: 1) {{ nodes {{ id }} }} }} }}\";
            let {target} = client.data(list).await[\"organization\"][\"{list}\"][\"nodes\"][0][\"id\"].clone();"
        )
    }
}
