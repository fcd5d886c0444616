//! How a field of an input is parsed, and written to its column.

use super::{
    field::{Field, JSON, Kind, underscores},
    name::Name,
};

impl Field {
    /// The type that holds only valid values.
    pub(super) fn valid_type(&self, resource: &Name) -> String {
        self.option(&match &self.kind {
            Kind::String(most) => format!("Line<{}>", underscores(*most)),
            Kind::Text(most) => format!("Block<{}>", underscores(*most)),
            Kind::Json => format!("BoundedJson<{}>", underscores(JSON)),
            Kind::Date => "NaiveDate".to_owned(),
            Kind::Enum(_, ty) => format!("{}::{ty}", resource.snake()),
            _ => self.input_type(),
        })
    }

    /// How a value of the input, `$`, becomes a valid one.
    fn conversion(&self) -> Conversion {
        let field = format!("\"input.{}\"", self.name.camel());
        let each = |parse: String| {
            Conversion::Parse(if self.required {
                parse
            } else {
                format!("$.map(|value| {}).transpose()", parse.replace('$', "value"))
            })
        };
        match (&self.kind, self.required) {
            (Kind::String(_), true) => Conversion::Parse(format!("Line::parse({field}, &$)")),
            (Kind::Text(_), true) => Conversion::Parse(format!("Block::parse({field}, &$)")),
            (Kind::String(_), false) => {
                Conversion::Parse(format!("Line::parse_optional({field}, $.as_deref())"))
            }
            (Kind::Text(_), false) => {
                Conversion::Parse(format!("Block::parse_optional({field}, $.as_deref())"))
            }
            (Kind::Json, _) => each(format!("BoundedJson::parse({field}, $.0)")),
            (Kind::Timestamp, _) => each(format!("calendar::storable({field}, $)")),
            (Kind::Date, true) => Conversion::Convert("$.0".to_owned()),
            (Kind::Date, false) => Conversion::Convert("$.map(|value| value.0)".to_owned()),
            (Kind::Enum(..), true) => Conversion::Convert("$.into()".to_owned()),
            (Kind::Enum(..), false) => Conversion::Convert("$.map(Into::into)".to_owned()),
            _ => Conversion::None,
        }
    }

    pub(super) fn create_value(&self) -> String {
        let name = self.name.snake();
        let of_input = |text: &str| text.replace('$', &format!("input.{name}"));
        match self.conversion() {
            Conversion::None => format!("{name}: input.{name},"),
            Conversion::Convert(text) => format!("{name}: {},", of_input(&text)),
            Conversion::Parse(text) => format!("{name}: {}?,", of_input(&text)),
        }
    }

    pub(super) fn update_value(&self) -> String {
        let name = self.name.snake();
        let edit = if self.required {
            format!("required(\"input.{}\", input.{name})?", self.name.camel())
        } else {
            format!("nullable(input.{name})")
        };
        let of_value = |text: &str| text.replace('$', "value");
        match self.conversion() {
            Conversion::None => format!("{name}: {edit},"),
            Conversion::Convert(text) if text == "$.into()" => {
                format!("{name}: {edit}.map(Into::into),")
            }
            Conversion::Convert(text) => {
                format!("{name}: {edit}.map(|value| {}),", of_value(&text))
            }
            Conversion::Parse(text) => {
                format!("{name}: {edit}.try_map(|value| {})?,", of_value(&text))
            }
        }
    }

    /// How a valid value becomes that of the column, as a function, if it differs.
    fn unwrap_function(&self) -> Option<&'static str> {
        match self.kind {
            Kind::String(_) => Some("Line::into_string"),
            Kind::Text(_) => Some("Block::into_string"),
            Kind::Json => Some("BoundedJson::into_value"),
            _ => None,
        }
    }

    /// The value of the column of a new row.
    pub(super) fn new_value(&self) -> String {
        let name = self.name.snake();
        match (self.unwrap_function(), self.required) {
            (None, _) => format!("new.{name}"),
            (Some(into), false) => format!("new.{name}.map({into})"),
            (Some(into), true) => {
                format!("new.{name}.{}()", into.rsplit(':').next().unwrap_or_default())
            }
        }
    }

    pub(super) fn apply(&self) -> String {
        let name = self.name.snake();
        let map = match (self.unwrap_function(), self.required) {
            (None, _) => String::new(),
            (Some(into), true) => format!(".map({into})"),
            (Some(into), false) => format!(".map(|value| value.map({into}))"),
        };
        format!("self.{name}{map}.apply_to(&mut row.{name});")
    }

    /// Whether an input can be invalid although it has the type of the field.
    pub(super) fn can_be_invalid(&self) -> bool {
        matches!(self.conversion(), Conversion::Parse(_))
    }
}

enum Conversion {
    None,
    Convert(String),
    Parse(String),
}
