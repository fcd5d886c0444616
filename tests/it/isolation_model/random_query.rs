//! Random queries over the whole schema, with ids and cursors of any owner as arguments.

use std::{collections::HashMap, fmt::Write as _};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fastrand::Rng;
use serde_json::Value;
use uuid::Uuid;

use super::ownership::{Kind, Owner, Ownership, new_id};
use crate::support::Client;

const MAX_DEPTH: usize = 6;
const INTROSPECTION: &str = "{ __schema { types { name kind possibleTypes { name } enumValues { name }
    fields { name args { name type { kind ofType { kind } } } type { ...T } } } } }
    fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";

struct Field {
    name: String,
    /// Names, and whether each is required.
    arguments: Vec<(String, bool)>,
    kind: String,
}

/// The schema as the server reports it.
pub struct Schema {
    fields: HashMap<String, Vec<Field>>,
    possible: HashMap<String, Vec<String>>,
    pub error_codes: Vec<String>,
}

fn names(list: &Value) -> Vec<String> {
    let names = list.as_array().map_or(&[][..], Vec::as_slice).iter();
    names.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

impl Schema {
    pub async fn ask(client: &Client) -> Self {
        let response = client.data(INTROSPECTION).await;
        let (mut fields, mut possible) = (HashMap::new(), HashMap::new());
        let mut error_codes = Vec::new();
        for kind in response["__schema"]["types"].as_array().unwrap() {
            let name = kind["name"].as_str().unwrap().to_owned();
            if name == "ErrorCode" {
                error_codes = names(&kind["enumValues"]);
            }
            if let Some(of_type) = kind["fields"].as_array() {
                fields.insert(name.clone(), of_type.iter().map(field).collect());
            }
            possible.insert(name, names(&kind["possibleTypes"]));
        }
        Self { fields, possible, error_codes }
    }

    pub fn field_names(&self, kind: &str) -> Vec<&str> {
        self.fields[kind].iter().map(|field| field.name.as_str()).collect()
    }

    fn is_composite(&self, kind: &str) -> bool {
        self.fields.contains_key(kind)
    }
}

fn field(response: &Value) -> Field {
    let mut kind = &response["type"];
    while !kind["ofType"].is_null() {
        kind = &kind["ofType"];
    }
    let required = |argument: &Value| argument["type"]["kind"] == "NON_NULL";
    Field {
        name: response["name"].as_str().unwrap().to_owned(),
        arguments: response["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|argument| (argument["name"].as_str().unwrap().to_owned(), required(argument)))
            .collect(),
        kind: kind["name"].as_str().unwrap().to_owned(),
    }
}

/// Writes a random document.
pub struct Writer<'a> {
    pub schema: &'a Schema,
    pub ownership: &'a Ownership,
    pub rng: &'a mut Rng,
    /// The organization of the request, whose ids are used half of the time.
    pub here: Option<usize>,
}

impl Writer<'_> {
    /// Writes a selection of a type, always with the fields that the scan needs.
    pub fn selection(&mut self, kind: &str, depth: usize) -> String {
        let schema = self.schema;
        let mut text = "{ __typename".to_owned();
        for field in &schema.fields[kind] {
            let composite = schema.is_composite(&field.kind);
            let likely = if composite && depth > 1 { 0.35 } else { 0.6 };
            let wanted = field.name == "id" || self.rng.f64() < likely;
            if !wanted || composite && depth >= MAX_DEPTH {
                continue;
            }
            let arguments = self.arguments(field);
            write!(text, " {}{arguments}", field.name).unwrap();
            if composite {
                text += &self.selection(&field.kind, depth + 1);
            }
        }
        if let [_, ..] = schema.possible[kind][..] {
            // Only one, because fields of the same name must have the same type.
            let on = self.rng.choice(&schema.possible[kind]).unwrap();
            write!(text, " ... on {on} {}", self.selection(on, depth + 1)).unwrap();
        }
        text + " }"
    }

    fn arguments(&mut self, field: &Field) -> String {
        let mut named = Vec::new();
        let backward = self.rng.bool();
        for (name, required) in &field.arguments {
            let one_end = name != if backward { "first" } else { "last" };
            if *required || one_end && self.rng.u8(..10) < 4 {
                named.push(format!("{name}: {}", self.argument(name)));
            }
        }
        if named.is_empty() { String::new() } else { format!("({})", named.join(", ")) }
    }

    fn argument(&mut self, name: &str) -> String {
        match name {
            "id" | "actorId" | "resourceId" => format!("\"{}\"", self.id()),
            "ids" => {
                let ids: Vec<_> =
                    (0..self.rng.u8(1..6)).map(|_| format!("\"{}\"", self.id())).collect();
                format!("[{}]", ids.join(", "))
            }
            "first" | "last" => self.rng.u8(0..9).to_string(),
            "after" | "before" => format!("\"{}\"", self.cursor()),
            "filter" => self.filter(),
            // Only the holder of a link has its token.
            "token" => "\"none\"".to_owned(),
            "feature" => "\"api_calls_per_month\"".to_owned(),
            "from" | "to" => "\"2026-01-01T00:00:00Z\"".to_owned(),
            other => panic!("choose a value for the argument {other}"),
        }
    }

    fn filter(&mut self) -> String {
        match self.rng.u8(..4) {
            0 => format!("{{ actorId: {} }}", self.argument("actorId")),
            1 => format!("{{ resourceId: {} }}", self.argument("resourceId")),
            2 => "{ resourceType: \"project\" }".to_owned(),
            _ => "{ action: \"project.created\" }".to_owned(),
        }
    }

    /// Returns an id of this organization, of another one, or of none.
    pub fn id(&mut self) -> Uuid {
        let of_here = |owner: Owner| match (owner, self.here) {
            (Owner::Organization(organization), Some(here)) => organization == here,
            (Owner::User(user), Some(here)) => self.ownership.may_know(here, user),
            _ => false,
        };
        let wanted = match self.rng.u8(..20) {
            0 => return new_id(self.rng),
            1..10 => true,
            _ => false,
        };
        for _ in 0..20 {
            let (_, id, owner) = self.rng.choice(&self.ownership.objects).unwrap();
            if of_here(*owner) == wanted {
                return *id;
            }
        }
        new_id(self.rng)
    }

    /// Returns an id of another organization, of this kind if there is one.
    pub fn foreign_id(&mut self, kind: Kind) -> Uuid {
        for request in 0..40 {
            let (found, id, _) = self.rng.choice(&self.ownership.objects).unwrap();
            let foreign = self.here.is_none_or(|here| self.ownership.is_foreign(*id, here));
            if foreign && (*found == kind || request > 30) {
                return *id;
            }
        }
        new_id(self.rng)
    }

    /// Returns a cursor of any list, near the present.
    fn cursor(&mut self) -> String {
        let at = chrono::Utc::now().timestamp_micros() - self.rng.i64(-1_000_000..60_000_000);
        let mut bytes = at.to_be_bytes().to_vec();
        bytes.extend(self.id().as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }
}
