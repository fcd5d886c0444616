//! The fields of a resource.

use super::name::Name;
use crate::cli::{Failure, capitalized};

/// The limits of text and JSON, if the field names none.
const LINE: usize = 200;
const BLOCK: usize = 2_000;
pub(super) const JSON: usize = 10_000;

/// A column that clients write.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: Name,
    pub(super) kind: Kind,
    pub(super) required: bool,
}

/// The type of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One line.
    String(usize),
    /// Any number of lines.
    Text(usize),
    Integer,
    Boolean,
    Date,
    Timestamp,
    Uuid,
    Json,
    /// The values, and the name of the type in Rust and GraphQL.
    Enum(Vec<Name>, String),
}

const KINDS: &str = "string, string(100), text, text(5000), integer, boolean, date, timestamp, \
                     uuid, json, enum(open|closed)";

/// Names that every resource has already.
const TAKEN: [&str; 6] =
    ["id", "organization_id", "created_by", "created_at", "updated_at", "audit_logs"];

impl Field {
    /// Parses `name:kind` or `name:kind!`.
    pub(super) fn parse(text: &str, resource: &Name) -> Result<Self, Failure> {
        let form = || {
            Failure::new(format!(
                "the field `{text}` must have the form title:string! or due_on:date"
            ))
        };
        let (name, kind) = text.split_once(':').ok_or_else(form)?;
        let name = Name::parse("field", name)?;
        if TAKEN.contains(&name.snake()) {
            return Err(Failure::new(format!(
                "every resource has the field `{}` already",
                name.snake()
            )));
        }
        let (kind, required) = kind.strip_suffix('!').map_or((kind, false), |kind| (kind, true));
        let kind = Kind::parse(kind, &name, resource)?;
        Ok(Self { name, kind, required })
    }

    pub(super) fn option(&self, text: &str) -> String {
        if self.required { text.to_owned() } else { format!("Option<{text}>") }
    }

    pub(super) fn defaults_to_false(&self) -> bool {
        self.required && self.kind == Kind::Boolean
    }
}

pub(super) fn variants(values: &[Name]) -> String {
    let variants = values.iter().map(|value| {
        let about = capitalized(&value.words());
        format!("/// {about}.\n{},\n", value.pascal())
    });
    variants.collect::<Vec<_>>().concat()
}

/// The number as readers write it: `2,000`.
pub(super) fn commas(number: usize) -> String {
    grouped(number, ',')
}

/// The number as Rust's style has it: `2_000`.
pub(super) fn underscores(number: usize) -> String {
    grouped(number, '_')
}

fn grouped(number: usize, separator: char) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(separator);
        }
        text.push(digit);
    }
    text
}

impl Kind {
    fn parse(text: &str, field: &Name, resource: &Name) -> Result<Self, Failure> {
        let (kind, argument) = match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
            Some((kind, argument)) => (kind, Some(argument)),
            None => (text, None),
        };
        let most = |default| match argument.map(str::parse) {
            None => Some(default),
            Some(Ok(most)) if (1..=100_000).contains(&most) => Some(most),
            Some(_) => None,
        };
        let alone = |kind| Some(kind).filter(|_| argument.is_none());
        let parsed = match kind {
            "string" => most(LINE).map(Self::String),
            "text" => most(BLOCK).map(Self::Text),
            "integer" => alone(Self::Integer),
            "boolean" => alone(Self::Boolean),
            "date" => alone(Self::Date),
            "timestamp" => alone(Self::Timestamp),
            "uuid" => alone(Self::Uuid),
            "json" => alone(Self::Json),
            "enum" if let Some(values) = argument => {
                let values = values.split('|').map(|value| Name::parse("value", value));
                let values = values.collect::<Result<Vec<_>, _>>()?;
                Some(Self::Enum(values, resource.pascal() + &field.pascal()))
            }
            _ => None,
        };
        let name = field.snake();
        parsed.ok_or_else(|| {
            Failure::new(format!("the field `{name}` has the kind `{text}`. Kinds: {KINDS}"))
        })
    }
}
